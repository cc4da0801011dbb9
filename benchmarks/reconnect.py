"""How long it takes until everything goes on after a server was restarted, or a link was cut.

    python -m benchmarks.reconnect [--only TEXT] [--quick]

A desk calls a HERO, listens to its event by itself and through an ``EventObserver``, follows a datasource, and knows
from a ``HEROObserver`` who is there; the first of each that is seen after the return counts. The return is the moment
in which the new process says that it is ready, or the cable is plugged in. Links are cut between network namespaces
that the benchmark makes itself, for which it needs the rights of root; without them it measures the rest.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import pytest
from rich.console import Console
from rich.table import Table

from heros.demo.loopback import free_port, zenoh_config
from tests.harness import Child
from tests.system.hosts import Lan, connecting, listening
from tests.system.hosts_peer import published
from tests.system.hosts_scene import Scene

NAME: Final = "station"
KINDS: Final = ("calls", "event", "EventObserver", "DatasourceObserver", "HEROObserver")
DEADLINE: Final = 180.0


@dataclass(frozen=True)
class Case:
    """One line of the report.

    Attributes:
        measure: returns the seconds of each of ``KINDS``, and the samples that the event's subscriber missed.
    """

    title: str
    measure: Callable[[Scene, ExitStack], tuple[dict[str, float], int]]
    slow: bool = False


def _goes_on(scene: Scene, run: int, after: int) -> dict[str, float]:
    """From now on, the seconds until the first of each kind is there of ``run``, past the sample ``after``."""
    start = time.monotonic()
    before = scene.status(NAME)
    seconds: dict[str, float] = {}
    while len(seconds) < len(KINDS) and time.monotonic() - start < DEADLINE:
        now = scene.status(NAME)
        for kind, there in zip(KINDS, _there(before, now, run, after), strict=True):
            if there:
                seconds.setdefault(kind, time.monotonic() - start)
    return seconds


def _there(before: dict[str, Any], now: dict[str, Any], run: int, after: int) -> Iterator[bool]:
    yield now["callers"][0]["ends"].get("result", 0) > before["callers"][0]["ends"].get("result", 0)
    for who in ("direct", "observed"):
        yield now[who]["runs"].get(str(run), (0, 0))[1] > after
    yield now["data"] > before["data"]
    yield now["known"]


def restarted(transport: str, kill: bool) -> Callable[[Scene, ExitStack], tuple[dict[str, float], int]]:
    def measure(scene: Scene, stack: ExitStack) -> tuple[dict[str, float], int]:
        port = free_port()
        common = {"HEROS_TRANSPORT": transport, "HEROS_NET": None if transport == "net" else "off"}
        here, there = ({**common, "HEROS_ZENOH_CONFIG": zenoh_config(port, listen)} for listen in (True, False))

        def start(*arguments: Any, env: Any) -> Child:
            return stack.enter_context(Child(*arguments, env=env))

        station = scene.station(start, NAME, 1, there)
        scene.sit_down(start, NAME, env=here)
        scene.wait_for_run(NAME, 1)
        if kill:
            station.kill9()
        else:
            station.end()
        scene.station(start, NAME, 2, there)
        seconds = _goes_on(scene, 2, 0)
        return seconds, scene.status(NAME)["direct"]["missed"]

    return measure


def cut(
    duration: float, carrier: bool, lease: float = 60.0
) -> Callable[[Scene, ExitStack], tuple[dict[str, float], int]]:
    """``carrier``: the computers see no cable; else the cut is between two switches, and they see nothing."""

    def measure(scene: Scene, stack: ExitStack) -> tuple[dict[str, float], int]:
        lan = stack.enter_context(Lan())
        alpha, beta = lan.host("alpha"), lan.host("beta")
        more = {"transport": {"link": {"tx": {"lease": int(1000 * lease)}}}}
        scene.station(alpha.start, NAME, 1, listening(**more))
        scene.sit_down(beta.start, NAME, env=connecting(alpha, **more))
        scene.wait_for_run(NAME, 1)
        alpha.unplug() if carrier else alpha.isolate()
        time.sleep(duration)
        alpha.plug()
        seconds = _goes_on(scene, 1, published(scene.folder, NAME, 1))
        return seconds, scene.status(NAME)["direct"]["missed"]

    return measure


CASES: Final = (
    Case("restarted after kill -9, shm", restarted("shm", True)),
    Case("restarted in order, shm", restarted("shm", False)),
    Case("restarted after kill -9, net", restarted("net", True)),
    Case("restarted in order, net", restarted("net", False)),
    Case("cable pulled for 2 s", cut(2, True), True),
    Case("cable pulled for 10 s", cut(10, True), True),
    Case("cut between switches for 10 s", cut(10, False), True),
    Case("cut between switches for 30 s", cut(30, False), True),
    Case("cut between switches for 70 s", cut(70, False), True),
    Case("cut between switches for 10 s, lease 5 s", cut(10, False, 5), True),
    Case("cut between switches for 30 s, lease 5 s", cut(30, False, 5), True),
)


@contextmanager
def _environment() -> Iterator[Path]:
    """Nobody else's HEROs; what is not changed by the cases."""
    directory = Path(tempfile.mkdtemp(prefix="heros-", dir="/tmp" if os.path.isdir("/tmp") else None))
    for name in [name for name in os.environ if name.startswith("HEROS_")]:
        del os.environ[name]
    os.environ["HEROS_RUNTIME_DIR"] = str(directory / "run")
    (directory / "run").mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@click.command()
@click.option("--only", default="", help="The cases whose title contains this text.")
@click.option("--quick", is_flag=True, help="Leave out what is slow, and needs the rights of root.")
def main(only: str, quick: bool) -> None:
    console = Console(width=120)
    table = Table("seconds after the return", *KINDS, "missed")
    failed = False
    for case in CASES:
        if only not in case.title or (quick and case.slow):
            continue
        console.print(case.title, style="dim")
        with _environment() as directory, ExitStack() as stack:
            try:
                seconds, missed = case.measure(Scene(directory), stack)
            except pytest.skip.Exception as reason:
                console.print(f"not measured: {reason}")
                continue
            failed |= len(seconds) < len(KINDS)
            table.add_row(
                case.title, *(f"{seconds[kind]:.2f}" if kind in seconds else "-" for kind in KINDS), str(missed)
            )
    console.print(table)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
