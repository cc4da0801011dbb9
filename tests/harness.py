"""Processes for tests: start one, wait until it is ready, stop, kill and look at it.

A child begins with ``python -c`` or with a file, in the environment of the test (see ``conftest``), and says that it is
ready by printing a line. Whatever it writes is kept and shown when something is waited for in vain. It should end when
its standard input ends, so that it does not outlive the tests, whatever happens to them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

__all__ = ["DEADLINE", "DROPIN", "ORIGINAL", "ROOT", "Child", "wait_until"]

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 20.0
"""Seconds that a test waits for something that normally takes milliseconds; generous, as machines may be loaded."""

ORIGINAL = ROOT / ".venv-original" / "bin" / "python"
"""With the original HEROS; made by ``make test``."""

DROPIN = ROOT / ".venv-dropin" / "bin" / "python"
"""With this package, BOSS, herostools and herosdevices; made by ``make test``."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], deadline: float = DEADLINE, what: str | Callable[[], str] = "") -> T:
    """Wait until ``condition()`` is true and return its value.

    Raises:
        AssertionError: it was still false after ``deadline`` seconds; says ``what`` was waited for.
    """
    end = time.monotonic() + deadline
    pause = 0.0005
    while not (value := condition()):
        if time.monotonic() >= end:
            text = what() if callable(what) else what
            raise AssertionError(f"not so within {deadline:g} s: {text or condition}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return value


class Child:
    """A Python process under test. Use it in a ``with`` block, which ends it.

    Args:
        program: the code to run, or the path of a file.
        arguments: its command line.
        env: changes to the environment; None removes a variable.
        pass_fds: descriptors that it inherits, under the same numbers.
        prefix: what starts it, such as ``nsenter``; must become it.
        interpreter: another Python than this one, which is to see its own packages and none of this repository.
    """

    def __init__(
        self,
        program: str | Path,
        *arguments: object,
        env: Mapping[str, str | None] | None = None,
        pass_fds: Sequence[int] = (),
        prefix: Sequence[str] = (),
        interpreter: Path | None = None,
    ) -> None:
        start = [str(program)] if isinstance(program, Path) else ["-c", program]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._lines: list[str] = []
        self._taken = 0
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            [*prefix, str(interpreter or sys.executable), "-X", "faulthandler", *start, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=interpreter.parent if interpreter else ROOT,
            env=_environment({"PYTHONPATH": None, **(env or {})} if interpreter else env or {}),
            pass_fds=pass_fds,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"output-of-{self.pid}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    # -- what it says -----------------------------------------------------------------------------------------

    def expect(self, word: str, deadline: float = DEADLINE) -> str:
        """Wait for a line that begins with ``word`` and return its rest. Lines before it are passed over."""

        def found() -> str | None:
            while self._taken < len(self._lines):
                line = self._lines[self._taken]
                self._taken += 1
                if line.split(" ", 1)[0] == word:
                    return line[len(word) :].strip()
            return None

        end = time.monotonic() + deadline
        with self._news:
            while (rest := found()) is None:
                remaining = end - time.monotonic()
                if remaining <= 0 or not self._reader.is_alive():
                    state = "still runs" if self._process.poll() is None else f"ended with {self._process.returncode}"
                    raise AssertionError(f"no line {word!r} from process {self.pid}, which {state}\n{self._output()}")
                self._news.wait(min(remaining, 0.1))
        return rest

    def ready(self, deadline: float = DEADLINE) -> str:
        """Wait for the line ``READY ...``."""
        return self.expect("READY", deadline)

    def say(self, line: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    @property
    def output(self) -> str:
        """What it has written so far, to standard output and then to standard error."""
        with self._news:
            return self._output()

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode(errors="replace")

    def _output(self) -> str:
        return "\n".join([f"--- output of {self.pid}", *self._lines, f"--- errors of {self.pid}", self.errors])

    # -- signals ----------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill9(self) -> None:
        """Kill it and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait(DEADLINE)

    def stop(self) -> None:
        """Stop it (SIGSTOP) and wait until it has stopped."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # all its threads, not only the first

    def cont(self) -> None:
        """Let it go on (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def interrupt(self) -> None:
        """Ctrl-C (SIGINT)."""
        self.signal(signal.SIGINT)

    # -- its end ----------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait for its end and return its exit code (negative: the signal that killed it)."""
        try:
            return self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"process {self.pid} did not end within {deadline:g} s\n{self.output}") from None

    def end(self, deadline: float = DEADLINE) -> int:
        """End its standard input, wait for its end and return its exit code."""
        self._end_input()
        return self.wait(deadline)

    def close(self) -> None:
        """Kill it if it still runs, and let go of everything."""
        if self.alive:
            self.kill9()
        self._end_input()
        self._reader.join(DEADLINE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _end_input(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.output)
        self.close()


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    environment = dict(os.environ)
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment.update(PYTHONPATH=os.pathsep.join(paths), PYTHONUNBUFFERED="1")
    for name, value in changes.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment
