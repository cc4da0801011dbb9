"""Who is measured: every peer, the script that speaks for it, its interpreter, and what its two processes are told."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .paths import ORIGINAL_PYTHON, ROOT

__all__ = ["REFERENCE", "ROSTER", "Entry", "Setting"]

REFERENCE: Final = "heros-shm"
"""The ratios are to this one."""


@dataclass(frozen=True)
class Setting:
    """What one of the two processes gets: changes to the environment, and options for its script."""

    env: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One peer.

    Attributes:
        name: for the command line and the results.
        title: for people.
        script: beside this file.
        settings: from the directory of a run to the settings of server and client.
        python: the interpreter, default this one's.
    """

    name: str
    title: str
    script: str
    settings: Callable[[Path], tuple[Setting, Setting]] = lambda directory: (Setting(), Setting())
    python: Path = Path(sys.executable)


def zenoh_configs() -> tuple[str, str]:
    """Zenoh for server and client: loopback TCP on a free port, no scouting, no shared memory."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def config(listen: str, connect: list[str]) -> str:
        return json.dumps(
            {
                "mode": "peer",
                "listen": {"endpoints": [listen]},
                "connect": {"endpoints": connect},
                "scouting": {"multicast": {"enabled": False}},
                "transport": {"shared_memory": {"enabled": False}},
            }
        )

    return config(f"tcp/127.0.0.1:{port}", []), config("tcp/127.0.0.1:0", [f"tcp/127.0.0.1:{port}"])


def heros_shm(directory: Path) -> tuple[Setting, Setting]:
    env = {"PYTHONPATH": str(ROOT), "HEROS_RUNTIME_DIR": str(directory / "h"), "HEROS_NET": "off"}
    setting = Setting(env | {"HEROS_TRANSPORT": "shm"}, {"transport": "shm"})
    return setting, setting


def heros_net(directory: Path) -> tuple[Setting, Setting]:
    env = {"PYTHONPATH": str(ROOT), "HEROS_RUNTIME_DIR": str(directory / "h"), "HEROS_TRANSPORT": "net"}
    server, client = zenoh_configs()
    options = {"transport": "net"}
    return Setting(env | {"HEROS_ZENOH_CONFIG": server}, options), Setting(
        env | {"HEROS_ZENOH_CONFIG": client}, options
    )


def original(directory: Path) -> tuple[Setting, Setting]:
    server, client = zenoh_configs()
    return Setting({"HEROS_ZENOH_CONFIG": server}), Setting({"HEROS_ZENOH_CONFIG": client})


def bare_zenoh(directory: Path) -> tuple[Setting, Setting]:
    server, client = zenoh_configs()
    return Setting(options={"zenoh": server}), Setting(options={"zenoh": client})


def floor(spin: bool) -> Callable[[Path], tuple[Setting, Setting]]:
    setting = Setting(options={"spin": spin})
    return lambda directory: (setting, setting)


ROSTER: Final[Mapping[str, Entry]] = {
    entry.name: entry
    for entry in (
        Entry("heros-shm", "heros, shared memory", "heros_peer.py", heros_shm),
        Entry("heros-net", "heros, network", "heros_peer.py", heros_net),
        Entry("original", "original heros 2026.2.2", "heros_peer.py", original, ORIGINAL_PYTHON),
        Entry("zenoh", "zenoh, bare", "zenoh_peer.py", bare_zenoh),
        Entry("pyzmq", "pyzmq + msgpack, ipc", "zmq_peer.py"),
        Entry("pyro", "Pyro5, unix socket", "pyro_peer.py"),
        Entry("rpyc", "RPyC, unix socket", "rpyc_peer.py"),
        Entry("iceoryx2", "iceoryx2, polling", "iceoryx_peer.py"),
        Entry("manager", "multiprocessing manager", "manager_peer.py"),
        Entry("floor", "floor: eventfd, memcpy", "floor_peer.py", floor(spin=False)),
        Entry("spin", "floor: spin on a word", "floor_peer.py", floor(spin=True)),
    )
}
"""By name, in the order of the tables."""
