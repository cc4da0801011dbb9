"""The demo's processes: starting them, talking with them, ending them.

Parent and child exchange lines of JSON on the child's standard input and output: the parent writes a command, as
``["name", argument, ...]``; the child answers with an object whose ``"what"`` is that name. Before the first command
it says ``"ready"``. A child ends when its standard input does, so none outlives its
parent, whatever the parent dies of. Children have a session of their own: Ctrl-C reaches the parent, which ends them.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

__all__ = ["Child", "ChildFailed", "hear", "say"]

END_SECONDS: Final = 3.0
TICK_SECONDS: Final = 0.1
OUTPUT_CHARACTERS: Final = 4000


# -- in a child -----------------------------------------------------------------------------------------------


def say(what: str, **fields: object) -> None:
    """Tell the parent something."""
    print(json.dumps({"what": what, **fields}), flush=True)


def hear() -> Any:
    """The next command from the parent, a list; None when there will be no more."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


# -- in the parent --------------------------------------------------------------------------------------------


class ChildFailed(Exception):
    """A process of the demo died, or did not answer. The message holds what it wrote."""


class Child:
    """One process. Use it in a ``with`` statement; leaving that ends the process.

    Args:
        name: what to call it in messages.
        command: module to run, and its arguments.
        environment: its environment.
        directory: where to keep what it writes to standard error.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self._stderr = directory / f"{name}.stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(environment),
                text=True,
                start_new_session=True,
            )
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: IO[str] = self._process.stdin
        self._stdout: IO[str] = self._process.stdout
        self._reader = threading.Thread(target=self._read, name=f"demo-{name}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(in_peace=error is None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, command: str, *arguments: object, timeout: float, tick: Callable[[], object] = lambda: None
    ) -> dict[str, Any]:
        """Send a command and wait for its answer. See :meth:`expect` for the rest."""
        try:
            self._stdin.write(json.dumps([command, *arguments]) + "\n")
            self._stdin.flush()
        except OSError:
            raise self._failed("died") from None
        return self.expect(command, timeout, tick)

    def expect(self, what: str, timeout: float, tick: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """What the process says next, which must be a ``what``. ``tick`` is called now and then while it has not.

        Raises:
            ChildFailed: it died, said something else, or said nothing for ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            tick()
            try:
                line = self._heard.get(timeout=TICK_SECONDS)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise self._failed(f'did not say "{what}" within {timeout:.0f} s') from None
                continue
            if not line:
                raise self._failed("died")
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict) or message.pop("what", None) != what:
                raise self._failed(f'said {line.strip()!r} instead of "{what}"')
            return message

    def check(self) -> None:
        """Raises ``ChildFailed`` if the process has ended."""
        if self._process.poll() is not None:
            raise self._failed("died")

    def end(self, in_peace: bool = True) -> None:
        """End the process: ask it to by closing its standard input, and insist when it does not follow.

        Raises:
            ChildFailed: ``in_peace``, and it had to be killed or its exit code is not 0.
        """
        try:
            self._stdin.close()
        except OSError:
            pass  # what was left to be written has no reader any more
        try:
            if not in_peace:
                self._process.terminate()
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        self._reader.join()
        self._stdout.close()
        if in_peace and code is None:
            raise self._failed(f"did not end within {END_SECONDS:.0f} s and was killed")
        if in_peace and code:
            raise self._failed("failed when it ended")

    def _read(self) -> None:
        for line in self._stdout:
            self._heard.put(line)
        self._heard.put("")

    def _failed(self, how: str) -> ChildFailed:
        try:
            code = self._process.wait(END_SECONDS) if how == "died" else self._process.poll()
        except subprocess.TimeoutExpired:
            code = None
        output = self._stderr.read_text(errors="replace").strip()[-OUTPUT_CHARACTERS:]
        lines = [f"The process {self.name!r} (pid {self.pid}) {how}."]
        if code is not None:
            lines.append(f"Its exit code is {code}.")
        lines.append(f"It wrote:\n{output}" if output else "It wrote nothing to standard error.")
        return ChildFailed("\n".join(lines))
