"""A desk that follows stations (``hosts_peer``), and whether everything that it has seen is accounted for."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness import Child, wait_until
from tests.system.hosts_peer import published

__all__ = ["PATIENCE", "PEER", "Scene"]

PEER = Path(__file__).parent / "hosts_peer.py"
PATIENCE = 90.0
"""Seconds; some of what is waited for takes a few of them by itself, on a machine that nobody else uses."""
OF_OURS = {"result", "PeerLost", "HEROUnavailable", "CallTimeout"}


class Scene:
    """A desk that follows stations, and what has become of their runs."""

    def __init__(self, folder: Path, realm: str = "") -> None:
        self.realm = realm or f"test-{uuid.uuid4().hex[:12]}"
        self.folder = folder
        self.desk: Child | None = None
        self.orderly: dict[tuple[str, int], bool] = {}

    def station(self, start: Callable[..., Child], name: str, run: int, env: Any = None) -> Child:
        self.orderly[name, run] = True
        child = start(PEER, "station", self.realm, name, run, self.folder, env=env)
        child.ready(PATIENCE)
        return child

    def sit_down(self, start: Callable[..., Child], *names: str, env: Any = None) -> None:
        self.desk = start(PEER, "desk", self.realm, *names, env=env)
        self.desk.ready(PATIENCE)

    def status(self, name: str, word: str = "status") -> dict[str, Any]:
        assert self.desk is not None
        self.desk.say(word)
        status: dict[str, Any] = json.loads(self.desk.expect("STATUS", PATIENCE))[name]
        return status

    def wait(self, name: str, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        wait_until(lambda: condition(self.status(name)), PATIENCE, lambda: f"{what}; {self.status(name)}")

    def wait_for_run(self, name: str, run: int) -> None:
        """Until calls return from the run, and all that listen have heard several of its samples."""
        before = self.status(name)

        def goes_on(now: dict[str, Any]) -> bool:
            calls = zip(before["callers"], now["callers"], strict=True)
            return (
                all(now[who]["runs"].get(str(run), (0, 0, 0))[2] >= 5 for who in ("direct", "observed"))
                and now["data"] > before["data"]
                and now["known"]
                and all(new["ends"].get("result", 0) > old["ends"].get("result", 0) for old, new in calls)
            )

        self.wait(name, goes_on, f"everything goes on with run {run}")

    def check(self, name: str) -> dict[str, Any]:
        """After the last run has ended: every call has ended, and every sample is accounted for."""
        self.wait(name, lambda now: not now["known"], "the observer knows that the station has gone")
        status = self.status(name, "stop")
        for caller in status["callers"]:
            assert caller["wrong"] == []
            assert caller["since"] is None
            assert set(caller["ends"]) <= OF_OURS
        self.check_gaps(name)
        return self.status(name)

    def check_gaps(self, name: str) -> None:
        """Every sample of the runs that are over is accounted for."""
        for who in ("direct", "observed"):
            self.wait(name, lambda now, who=who: self._is_settled(name, now[who]), f"the gaps of {who}")
            assert self.status(name)[who]["wrong"] == []

    def _is_settled(self, name: str, seen: dict[str, Any]) -> bool:
        missed: int = seen["missed"]
        return missed == self._missed(name, seen)

    def _missed(self, name: str, seen: dict[str, Any]) -> int:
        """What a subscriber did not get of what it could know of: of a killed run, nothing after its last sample."""
        missed = 0
        for run, (first, last, count) in seen["runs"].items():
            if self.orderly[name, int(run)]:
                last = published(self.folder, name, int(run))
            missed += last - count - (first - 1 if run == min(seen["runs"], key=int) else 0)
        return missed
