"""A child process that is asked things: the line protocol of ``peer.py``, from the side of the one that asks."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["Missing", "PeerFailed", "Process"]

ANSWER_SECONDS: Final = 60.0
"""A process that says nothing for so long has failed."""

END_SECONDS: Final = 10.0


class PeerFailed(Exception):
    """A peer could not be started, answered with an error, or not at all. The text says which, and what it printed."""


class Missing(Exception):
    """The peer does not offer this case, or is too slow for it."""


class Process:
    """One process. Not thread-safe; whoever makes it calls ``end``.

    Args:
        title: what it is called when it fails.
        command: what to run.
        env: further environment variables.
        directory: where it runs.

    Attributes:
        pid: its number.

    Raises:
        PeerFailed: it cannot be started.
    """

    def __init__(self, title: str, command: Sequence[str], env: Mapping[str, str], directory: Path) -> None:
        self._title = title
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end()
        # What the caller has set for HEROS of its own is not what is to be measured; nor must the original find us.
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HEROS_", "PYTHON"))}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=directory,
                env=clean | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(env),
            )
        except OSError as error:
            self._errors.close()
            raise PeerFailed(
                f"{title}: {command[0]} cannot be started ({error.strerror}). `make peers` makes what it needs."
            ) from None
        self.pid = self._process.pid
        self._asked = ""
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=title, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a request and wait for its answer."""
        self.send(do, **arguments)
        return self.answer()

    def send(self, do: str, **arguments: Any) -> None:
        """Send a request; ``answer`` waits for it. Meanwhile others may be asked."""
        assert self._process.stdin is not None
        self._asked = do
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is in the answers

    def answer(self) -> Any:
        """The answer to the request that was sent.

        Raises:
            Missing: it is not offered.
            PeerFailed: it went wrong, or the process did not answer.
        """
        do = self._asked
        try:
            line = self._answers.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            self._process.kill()
            raise PeerFailed(f"{self._title}: no answer to {do!r} within {ANSWER_SECONDS:g} s{self._said()}") from None
        if not line:
            self._answers.put(b"")  # for whoever asks once more
            code = self._process.wait(END_SECONDS)
            raise PeerFailed(f"{self._title}: ended with exit code {code} at {do!r}{self._said()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        if "error" in answer:
            raise PeerFailed(f"{self._title}: {do!r}: {answer['error']}{self._said()}")
        return answer["ok"]

    def hang_up(self) -> None:
        """Ask nothing any more: it ends, which ``end`` waits for."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass

    def end(self) -> str:
        """End it; a complaint if it did not want to, or ended with an error."""
        assert self._process.stdout is not None
        self.hang_up()
        complaint = ""
        try:
            if (code := self._process.wait(END_SECONDS)) != 0:
                complaint = f"{self._title}: ended with exit code {code}{self._said()}"
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            complaint = f"{self._title}: did not end within {END_SECONDS:g} s and was killed{self._said()}"
        self._reader.join(END_SECONDS)
        self._process.stdout.close()
        self._errors.close()
        return complaint

    def _said(self) -> str:
        """The end of what it has printed."""
        size = os.fstat(self._errors.fileno()).st_size
        text = os.pread(self._errors.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()
        return f"\n{text}" if text else ""
