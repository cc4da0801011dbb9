"""How the Zenoh session of a realm is configured.

Later in this list wins: Zenoh's own defaults; ours (``DEFAULTS``); ``HEROS_ZENOH_CONFIG``, a JSON5 configuration or the
path of a file that holds one; ``HEROS_SEP_MULTICAST``; what the program itself has set with
``ZenohSessionManager.update_config``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from heros.exceptions import HEROSError
from heros.net import engine

__all__ = ["generate_multicast_address", "session_config", "update"]

DEFAULT_REALM: Final = "heros"
MULTICAST_PORT: Final = 7446

LEASE: Final = "transport/link/tx/lease"
PATIENCE: Final = "transport/link/tx/queue/congestion_control/block/wait_before_close"
"""How long a sender waits for a queue that is full, until the connection is closed. In microseconds.

It is the lease unless the user chooses: a process that holds the GIL in a long computation is not dead either. Longer
would be wrong. When the lease is over, zenoh's closing of the connection waits for the sender, and so does a peer that
wants to connect again."""

DEFAULTS: Final[Mapping[str, Any]] = {
    # Shared memory is ours to do; Zenoh's would leave files in /dev/shm behind a killed process.
    "transport/shared_memory/enabled": False,
    # A stopped process (a debugger, a suspended laptop) is not a dead one. A killed one is noticed at once, by its
    # TCP connection; only a machine that vanishes without a word is waited for this long. In milliseconds.
    LEASE: 60_000,
    # A word every five seconds, so that a machine that came back without its old connections is noticed as soon.
    "transport/link/tx/keep_alive": 12,
}

TLS: Final = "transport/link/tls"
TLS_FILES: Final = (
    "root_ca_certificate",
    "listen_certificate",
    "listen_private_key",
    "connect_certificate",
    "connect_private_key",
)

_overrides: dict[str, Any] = {}


def update(values: Mapping[str, Any]) -> None:
    """Set configuration values for the sessions opened from now on: key (``"connect/endpoints"``) to value."""
    _overrides.update(values)


def generate_multicast_address(realm: str) -> str:
    """The IPv4 multicast address, 224.0.1.0 to 238.255.255.255, on which the realm scouts.

    It depends on the name only. Two realms may get the same address, though that is improbable; they then merely
    hear each other's scouting.
    """
    first = int(ipaddress.IPv4Address("224.0.1.0"))
    last = int(ipaddress.IPv4Address("238.255.255.255"))
    digest = int.from_bytes(hashlib.shake_128(realm.encode()).digest(4), "big")
    return str(ipaddress.IPv4Address(first + digest % (last - first + 1)))


def session_config(realm: str) -> Any:
    """The configuration (a ``zenoh.Config``) for the session of ``realm``.

    Raises:
        HEROSError: ``HEROS_ZENOH_CONFIG`` or a value given to :func:`update` is not valid, or a certificate that is
            named there cannot be read.
    """
    zenoh = engine.load()
    plain = zenoh.Config()
    config = _from_environment(zenoh)
    for key, value in DEFAULTS.items():
        if config.get_json(key) == plain.get_json(key):  # the user did not choose another one
            config.insert_json5(key, json.dumps(value))
    if realm != DEFAULT_REALM and os.environ.get("HEROS_SEP_MULTICAST", "").strip().lower() in ("1", "true"):
        address = f"{generate_multicast_address(realm)}:{MULTICAST_PORT}"
        config.insert_json5("scouting/multicast/address", json.dumps(address))
    for key, value in _overrides.items():
        try:
            config.insert_json5(key, json.dumps(value))
        except (zenoh.ZError, TypeError, ValueError) as error:
            raise HEROSError(
                f"update_config: {key!r} = {value!r} is not a valid Zenoh setting: {engine.reason(error)}"
            ) from None
    if config.get_json(PATIENCE) == plain.get_json(PATIENCE):
        config.insert_json5(PATIENCE, json.dumps(1000 * json.loads(config.get_json(LEASE))))
    _check_certificates(config)
    return config


def _from_environment(zenoh: Any) -> Any:
    """``HEROS_ZENOH_CONFIG`` as a ``zenoh.Config``. In a file, relative paths of certificates start at the file."""
    given = os.environ.get("HEROS_ZENOH_CONFIG", "").strip()
    if not given:
        return zenoh.Config()
    text, where = given, ""
    if "{" not in given or os.path.isfile(given):
        where = f" in {given}"
        try:
            with open(given, encoding="utf-8") as file:
                text = file.read()
        except (OSError, ValueError) as error:
            raise HEROSError(
                f"HEROS_ZENOH_CONFIG is neither a Zenoh configuration (JSON5) nor the path of a file with one: {error}"
            ) from None
    try:
        config = zenoh.Config.from_json5(text)
    except zenoh.ZError as error:
        raise HEROSError(
            f"HEROS_ZENOH_CONFIG is not a valid Zenoh configuration (JSON5){where}: {engine.reason(error)}"
        ) from None
    if where:
        for key, path in _certificates(config):
            config.insert_json5(key, json.dumps(os.path.join(os.path.dirname(os.path.abspath(given)), path)))
    return config


def _certificates(config: Any) -> list[tuple[str, str]]:
    """The settings that name files of TLS, and the paths."""
    found = ((key, json.loads(config.get_json(key))) for key in (f"{TLS}/{name}" for name in TLS_FILES))
    return [(key, path) for key, path in found if path]


def _check_certificates(config: Any) -> None:
    """Zenoh itself would say nothing: without its certificate, a session merely never meets anybody."""
    for key, path in _certificates(config):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise HEROSError(f"{key} of the Zenoh configuration cannot be read: {error}") from None
