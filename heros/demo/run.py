"""The demo as a whole: one acquisition, its readers, two runs of the camera, one table."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from rich.console import Console

from heros.demo.children import Child
from heros.demo.loopback import free_port, zenoh_config
from heros.demo.measured import SLOW_SECONDS, Acquisition, Calls, Frames, Reading
from heros.demo.report import show
from heros.demo.steps import Steps

__all__ = ["run"]

START_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 10.0
SHORT_PATH: Final = 32
EXPECTED_START_SECONDS: Final = 2.0
EXPECTED_CALL_SECONDS: Final = 0.5


class Reader(NamedTuple):
    """One reading process: what it is called, the transport it should use, its own settings, how much it does."""

    name: str
    transport: str
    environment: dict[str, str]
    calls: int
    delay: float


LOCAL: Final = Reader("local", "shm", {}, 2000, 0.0)
REMOTE: Final = Reader("remote", "net", {"HEROS_TRANSPORT": "net"}, 500, 0.0)
SLOW: Final = Reader("slow", "shm", {}, 500, SLOW_SECONDS)
READERS: Final = (LOCAL, REMOTE, SLOW)


def run(seconds: float, console: Console) -> bool:
    """Run the demo; the camera acquires for ``seconds`` in all. Returns whether everything was as it should be.

    Raises:
        ChildFailed: a process died or did not answer; the message holds what it wrote.
    """
    half = seconds / 2
    expected = EXPECTED_START_SECONDS + len(READERS) * EXPECTED_CALL_SECONDS + seconds
    with Steps(console, expected) as steps, Crew(steps) as crew:
        steps.begin("starting four processes", EXPECTED_START_SECONDS)
        camera = crew.start_acquisition()
        followers = {reader.name: crew.start_reader(reader) for reader in READERS}
        crew.wait_until_ready()

        calls = {}
        for reader in READERS:
            steps.begin(f"{reader.name} reader: {reader.calls:,} calls", EXPECTED_CALL_SECONDS)
            calls[reader.name] = Calls(**crew.ask(followers[reader.name], "call"))

        # A reader begins to follow while the camera is idle: so it knows which frame is the first that it should get.
        crew.ask(followers[LOCAL.name], "follow")
        crew.ask(followers[REMOTE.name], "follow")
        steps.begin("acquiring", half)
        plain = Acquisition(**crew.ask(camera, "acquire", half, patience=half))
        crew.ask(followers[SLOW.name], "follow")
        steps.begin(f"acquiring, with a reader beside that takes {SLOW_SECONDS:g} s a frame", half)
        slowed = Acquisition(**crew.ask(camera, "acquire", half, patience=half))

        readings = []
        for reader in READERS:
            frames = Frames(**crew.ask(followers[reader.name], "finish"))
            followed = slowed.seconds if reader is SLOW else plain.seconds + slowed.seconds
            readings.append(Reading(reader.name, reader.transport, calls[reader.name], frames, followed))
    return show(console, plain, slowed, readings)


class Crew:
    """The processes of one demo, in a realm, a runtime directory and a network of their own. End it as a ``with``."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._realm = f"demo-{secrets.token_hex(4)}"
        self._port = free_port()
        self._stack = ExitStack()
        self._directory = Path(self._stack.enter_context(_temporary_directory()))
        self._children: list[Child] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def start_acquisition(self) -> Child:
        return self._start("acquisition", ["heros.demo.acquire", self._realm], True, {})

    def start_reader(self, reader: Reader) -> Child:
        command = ["heros.demo.follow", self._realm, str(reader.calls), str(reader.delay)]
        return self._start(f"{reader.name} reader", command, False, reader.environment)

    def _start(self, name: str, command: list[str], listen: bool, environment: dict[str, str]) -> Child:
        everything = {
            **_plain_environment(),
            "HEROS_RUNTIME_DIR": str(self._directory / "heros"),
            "HEROS_ZENOH_CONFIG": zenoh_config(self._port, listen),
            **environment,
        }
        child = self._stack.enter_context(Child(name, command, everything, self._directory))
        self._children.append(child)
        return child

    def wait_until_ready(self) -> None:
        for child in self._children:
            child.expect("ready", START_SECONDS, self._tick)

    def ask(self, child: Child, command: str, *arguments: object, patience: float = 0.0) -> dict[str, Any]:
        """Have one process do something that takes ``patience`` seconds; the death of any of them ends the wait."""
        return child.ask(command, *arguments, timeout=patience + ANSWER_SECONDS, tick=self._tick)

    def _tick(self) -> None:
        self._steps.tick()
        for child in self._children:
            child.check()


def _plain_environment() -> dict[str, str]:
    """This process's environment without settings of heros, and with this very copy of the package."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEROS_")}
    package = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    return environment


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    """One whose path is short enough to hold a unix socket: where the usual place is deep, in /tmp."""
    deep = len(tempfile.gettempdir()) > SHORT_PATH and os.path.isdir("/tmp")
    return tempfile.TemporaryDirectory(prefix="heros-demo-", dir="/tmp" if deep else None)
