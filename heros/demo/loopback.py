"""Zenoh on loopback only, for the demo and the tests: explicit endpoints and no multicast, so that nobody meets the
neighbour's."""

from __future__ import annotations

import contextlib
import json
import random
import socket

__all__ = ["free_port", "zenoh_config"]


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens at this moment. It is none of those that the system gives to
    whoever asks for any, one of which could be gone before it is used."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def zenoh_config(port: int, listen: bool) -> str:
    """The text for ``HEROS_ZENOH_CONFIG``.

    The one process with ``listen`` listens on ``port``. All others connect to it, in any order of starting, and find
    each other through its gossip.
    """
    return json.dumps(
        {
            "mode": "peer",
            "listen": {"endpoints": [f"tcp/127.0.0.1:{port if listen else 0}"]},
            "connect": {
                "endpoints": [] if listen else [f"tcp/127.0.0.1:{port}"],
                "timeout_ms": -1,  # for ever, in the background; 0 would be once
                "exit_on_failure": False,
                "retry": {"period_init_ms": 50, "period_max_ms": 500, "period_increase_factor": 2},
            },
            "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": True}},
            "transport": {"shared_memory": {"enabled": False}},  # as heros has it; for the original, which has not
        }
    )
