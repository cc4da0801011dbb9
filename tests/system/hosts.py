"""Computers for a test: network namespaces that it makes itself, joined by a switch, with cables that can be pulled.

Each host has a name, an address, a mount namespace and a runtime directory of its own: under the path that all of them
have in ``HEROS_RUNTIME_DIR`` lies, in each, another file system. So nothing but the network joins two of them. All of
it ends with the processes that hold it; nothing outside of these namespaces has a part in it.

A cable that loses and delays frames is ``netem`` where the kernel has it; elsewhere a process that passes them on
between two TAP devices (``lossy_cable``), which every kernel with ``/dev/net/tun`` can do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.harness import Child

__all__ = ["Host", "Lan", "connecting", "listening"]

HOLD = "hostname $0; echo ready; exec cat"
PORT = 7447


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class _Namespace:
    """A network, mount and host name namespace, held by a process that ends with this one."""

    def __init__(self, name: str) -> None:
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--uts",
                "--propagation",
                "private",
                "sh",
                "-c",
                HOLD,
                name,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._holder.pid
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("a namespace is not permitted here")
        self.enter = ("nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--")
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str) -> str:
        return _run(*self.enter, *command)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdin, self._holder.stdout):
            assert pipe is not None
            pipe.close()


class Host:
    """One computer. Made by :meth:`Lan.host`."""

    def __init__(self, lan: Lan, name: str, number: int) -> None:
        self.address = f"10.77.0.{number}"
        self.port = f"port{number}"
        self._lan = lan
        self._space = _Namespace(name)
        lan.stack.callback(self._space.close)
        self._space.run("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", os.environ["HEROS_RUNTIME_DIR"])

    @property
    def pid(self) -> int:
        """Of the process that holds the namespaces."""
        return self._space.pid

    def run(self, *command: str) -> str:
        """Run a command on this computer and return its output."""
        return self._space.run(*command)

    def start(self, program: str | Path, *arguments: object, env: Mapping[str, str | None] | None = None) -> Child:
        """Start a program on this computer, which ends with the test."""
        environment = {"HEROS_NET": None, "HEROS_ZENOH_CONFIG": None, **(env or {})}
        return self._lan.stack.enter_context(Child(program, *arguments, env=environment, prefix=self._space.enter))

    def move(self, address: str) -> None:
        """Give it another address."""
        self.run("ip", "address", "flush", "dev", "eth0")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.address = address

    def unplug(self) -> None:
        """Pull the cable at the switch: the link goes down on both sides."""
        self._lan.switch.run("ip", "link", "set", self.port, "down")

    def isolate(self) -> None:
        """Cut the link further away, where neither side sees it: what it sends goes nowhere."""
        self._lan.switch.run("ip", "link", "set", self.port, "nomaster")

    def plug(self) -> None:
        """Undo either."""
        self._lan.switch.run("ip", "link", "set", self.port, "master", "br0")
        self._lan.switch.run("ip", "link", "set", self.port, "up")


class Lan:
    """A switch and the hosts at it. Use it in a ``with`` block, which ends everything.

    Skips the test where network namespaces are not permitted.
    """

    def __init__(self) -> None:
        self.stack = ExitStack()
        self._count = 0
        for tool in ("ip", "unshare", "nsenter"):
            if shutil.which(tool) is None:
                pytest.skip(f"several hosts need network namespaces, and there is no program {tool!r}")
        os.makedirs(os.environ["HEROS_RUNTIME_DIR"], exist_ok=True)
        try:
            self.switch = _Namespace("switch")
            self.stack.callback(self.switch.close)
            self.switch.run("ip", "link", "add", "br0", "type", "bridge")
            self.switch.run("ip", "link", "set", "br0", "up")
        except (OSError, RuntimeError) as error:
            self.stack.close()
            pytest.skip(f"several hosts need network namespaces: {error}")

    def host(self, name: str, loss: float = 0.0, delay: float = 0.0) -> Host:
        """One more computer.

        Args:
            loss: the part of the frames that its cable loses, in each direction.
            delay: seconds that a frame takes, in each direction.
        """
        self._count += 1
        host = Host(self, name, self._count)
        if loss or delay:
            self._poor_cable(host, loss, delay)
        else:
            self._veth(host)
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        host.plug()
        return host

    def _veth(self, host: Host) -> None:
        peer = ("peer", "name", "eth0", "netns", str(host.pid))
        self.switch.run("ip", "link", "add", host.port, "type", "veth", *peer)

    def _poor_cable(self, host: Host, loss: float, delay: float) -> None:
        quality = ("loss", f"{100 * loss:g}%", "delay", f"{1000 * delay:g}ms")
        self._veth(host)
        try:
            self.switch.run("tc", "qdisc", "add", "dev", host.port, "root", "netem", *quality)
            host.run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", *quality)
            return
        except (OSError, RuntimeError):
            self.switch.run("ip", "link", "delete", host.port)
        if not os.path.exists("/dev/net/tun"):
            pytest.skip("a link that loses frames needs netem or /dev/net/tun, and this kernel has neither")
        ends = (self.switch.pid, host.port, host.pid, "eth0")
        cable = Child(Path(__file__).parent / "lossy_cable.py", *ends, loss, delay)
        self.stack.enter_context(cable).ready()

    def __enter__(self) -> Lan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stack.__exit__(kind, error, traceback)


# -- configurations -------------------------------------------------------------------------------------------


def listening(mode: str = "peer", **more: Any) -> dict[str, str | None]:
    """Of a process to which the others connect, without multicast."""
    return _configuration(mode, f"tcp/0.0.0.0:{PORT}", [], more)


def connecting(host: Host, mode: str = "peer", **more: Any) -> dict[str, str | None]:
    """Of a process that connects to the one that listens on ``host``, without multicast."""
    return _configuration(mode, "tcp/0.0.0.0:0", [f"tcp/{host.address}:{PORT}"], more)


def _configuration(mode: str, listen: str, connect: list[str], more: Mapping[str, Any]) -> dict[str, str | None]:
    config: dict[str, Any] = {
        "mode": mode,
        "listen": {"endpoints": [] if mode == "client" else [listen]},
        "connect": {
            "endpoints": connect,
            "timeout_ms": -1,
            "exit_on_failure": False,
            "retry": {"period_init_ms": 100, "period_max_ms": 1000, "period_increase_factor": 2},
        },
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": True}},
        **more,
    }
    return {"HEROS_ZENOH_CONFIG": json.dumps(config)}
