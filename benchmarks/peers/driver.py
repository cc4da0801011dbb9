"""A peer's two processes: started, asked for a case, ended.

    with Pair(ROSTER["heros-shm"]) as pair:
        sample = pair.measure(Case("call"), Effort(repeat=2000, warmup=200, seconds=1.0))
        print(statistics.median(sample.nanoseconds))

Several pairs may be alive at the same time; one that is not being asked sleeps. To compare, keep them open and ask in
turn, round by round, so that a machine that changes its speed changes it for all:

    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(Pair(ROSTER[name])) for name in ("heros-shm", "iceoryx2")]
        for _ in range(rounds):
            for pair in pairs:
                samples[pair.name].append(pair.measure(case, effort))

Nothing here is timed: the clock is read in the client's process (``peer.py``).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from .cases import Case, Effort
from .paths import HERE
from .process import Missing, PeerFailed, Process
from .roster import Entry, Setting

__all__ = ["Missing", "Pair", "PeerFailed", "Sample"]

QUIET_SECONDS: Final = 0.4
"""No sample for so long: the rest is lost."""

CONNECT_SECONDS: Final = 15.0


@dataclass
class Sample:
    """One round of one case.

    Attributes:
        nanoseconds: of each operation, in order; empty for events.
        published, received: samples, for events.
        seconds: from the first sample that was received to the last.
    """

    nanoseconds: list[int] = field(default_factory=list)
    published: int = 0
    received: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Samples received in a second; 0 for fewer than two."""
        return (self.received - 1) / self.seconds if self.received > 1 and self.seconds else 0.0


class Pair:
    """The server and the client of one peer, each a process of its own. Not thread-safe; use it in a ``with`` block.

    Args:
        entry: which peer, one of ``ROSTER``.
        server_env, client_env: further environment variables, e.g. ``{"HEROS_SPIN_US": "0"}``.

    Attributes:
        name: the peer's.
        versions: what of, and in which version, it is made.

    Raises:
        PeerFailed: it did not start.
    """

    def __init__(
        self,
        entry: Entry,
        server_env: Mapping[str, str] | None = None,
        client_env: Mapping[str, str] | None = None,
    ) -> None:
        self.entry, self.name = entry, entry.name
        self.versions: dict[str, str] = {}
        self._processes: list[Process] = []
        # Short, as the path of a unix socket has at most 107 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="peers-", dir="/tmp"))
        try:
            server, client = entry.settings(self._directory)
            self._server = self._start("server", server, server_env or {})
            self._client = self._start("client", client, client_env or {})
        except BaseException:
            self.close(in_order=False)
            raise

    def _start(self, role: str, setting: Setting, env: Mapping[str, str]) -> Process:
        options = {**setting.options, "directory": str(self._directory)}
        command = [str(self.entry.python), str(HERE / self.entry.script), role, json.dumps(options)]
        process = Process(f"{self.name}, {role}", command, {**setting.env, **env}, self._directory)
        self._processes.append(process)
        self.versions |= process.ask("start")
        return process

    @property
    def pids(self) -> tuple[int, int]:
        """Of the server and the client."""
        return self._server.pid, self._client.pid

    def measure(self, case: Case, effort: Effort) -> Sample:
        """One round of a case.

        Raises:
            Missing: the peer does not offer it, or is too slow.
            PeerFailed: it went wrong; the pair is of no use any more.
        """
        self._server.ask("begin", kind=case.kind, memory=case.memory)
        try:
            return self._events(case, effort) if case.kind == "events" else self._operations(case, effort)
        finally:
            self._server.ask("end")

    def _operations(self, case: Case, effort: Effort) -> Sample:
        taken = self._client.ask(
            "measure",
            kind=case.kind,
            nbytes=case.nbytes,
            memory=case.memory,
            silence=case.silence,
            repeat=effort.repeat,
            warmup=effort.warmup,
            seconds=effort.seconds,
        )
        return Sample(nanoseconds=taken)

    def _events(self, case: Case, effort: Effort) -> Sample:
        what = {"nbytes": case.nbytes, "memory": case.memory}
        self._client.ask("subscribe", **what)
        try:
            # A subscription takes a while to reach the publisher: knock until somebody is at home.
            deadline = time.monotonic() + CONNECT_SECONDS
            while True:
                self._server.ask("publish", **what, seconds=1.0, limit=1)
                if self._client.ask("count", expected=1, quiet=0.1)["received"]:
                    break
                if time.monotonic() > deadline:
                    raise PeerFailed(f"{self.name}: no sample reaches the subscriber")
            self._client.ask("count", expected=1_000_000, quiet=QUIET_SECONDS)  # late knocks
            published = self._server.ask("publish", **what, seconds=effort.seconds, limit=effort.repeat)
            told = self._client.ask("count", expected=published, quiet=QUIET_SECONDS)
        finally:
            self._client.ask("unsubscribe")
        if told["wrong"]:
            raise PeerFailed(f"{self.name}: {told['wrong']} of {told['received']} samples are not what was published")
        return Sample(published=published, received=told["received"], seconds=told["nanoseconds"] / 1e9)

    def close(self, in_order: bool = True) -> None:
        """End both processes, and remove what they leave.

        Raises:
            PeerFailed: ``in_order``, and one of them did not end, or not well.
        """
        complaints = [process.end() for process in reversed(self._processes)]
        self._processes.clear()
        shutil.rmtree(self._directory, ignore_errors=True)
        for path in Path("/dev/shm").glob(f"*{self._directory.name}*"):  # what iceoryx2 leaves, most of it if killed
            path.unlink(missing_ok=True)
        if in_order and any(complaints):
            raise PeerFailed(f"{self.name}: " + "; ".join(filter(None, complaints)))

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(in_order=error is None)
