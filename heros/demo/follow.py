"""A reading process of the demo: uses the HEROs ``camera`` and ``host`` through whatever transport it is given."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import asdict
from typing import Any, Final

from heros.demo.children import hear, say
from heros.demo.measured import Calls, Frames
from heros.demo.tally import FrameTally, TelemetryTally
from heros.remote import RemoteHERO, transport_of

__all__ = ["Follower", "main"]

APPEAR_SECONDS: Final = 15.0
SETTLE_SECONDS: Final = 5.0


class Follower:
    """One reader.

    Args:
        realm: where the HEROs are.
        count: calls to measure.
        delay: seconds to spend on each frame, in addition to checking it.
    """

    def __init__(self, realm: str, count: int, delay: float) -> None:
        self._camera: Any = RemoteHERO("camera", realm=realm, wait=APPEAR_SECONDS)
        self._host: Any = RemoteHERO("host", realm=realm, wait=APPEAR_SECONDS)
        self._count = count
        self._delay = delay
        self._hurry = threading.Event()
        self._frames = FrameTally(0)
        self._telemetry = TelemetryTally()

    def call(self) -> Calls:
        """Call methods of both HEROs; write and read an attribute."""
        if self._host.processors() < 1:
            raise ValueError("this machine has no processor")
        for _ in range(self._count // 10):
            self._timed_call()  # warms up both sides
        times = sorted(self._timed_call() for _ in range(self._count))
        return Calls(
            transports={"camera": transport_of(self._camera), "host": transport_of(self._host)},
            p50=times[self._count // 2],
            p99=times[self._count * 99 // 100],
            attribute=self._write_and_read(),
        )

    def _timed_call(self) -> float:
        begin = time.perf_counter()
        result = self._camera.add(1, 2)
        elapsed = time.perf_counter() - begin
        if result != 3:
            raise ValueError(f"1 + 2 is not {result}")
        return elapsed

    def _write_and_read(self) -> bool:
        before = self._camera.exposure
        written = before + 0.25
        self._camera.exposure = written
        read = self._camera.exposure
        self._camera.exposure = before
        return bool(read == written and self._camera.exposure == before)

    def follow(self) -> None:
        """Subscribe to both events. The camera must be idle, so that it is known with which frame this begins."""
        self._frames = FrameTally(self._camera.published())
        self._camera.frames.connect(self._take)
        self._host.observable_data.connect(self._telemetry.take)

    def _take(self, sample: dict[str, Any]) -> None:
        self._frames.take(sample)
        if self._delay:
            self._hurry.wait(self._delay)

    def finish(self) -> Frames:
        """Wait until everything that was published is either here or reported as missed, and tell what was what."""
        in_time = self._frames.received
        published = self._camera.published()
        self._hurry.set()
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            reported = self._camera.frames.missed
            if reported == self._frames.missed(published) or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        self._camera.frames.disconnect(self._take)
        self._host.observable_data.disconnect(self._telemetry.take)
        return Frames(
            received=self._frames.received,
            in_time=in_time,
            intact=self._frames.intact,
            disordered=self._frames.disordered,
            counted=self._frames.missed(published),
            reported=reported,
            telemetry=self._telemetry.good,
            telemetry_faulty=self._telemetry.faulty,
        )


def main() -> None:
    """``python -m heros.demo.follow REALM CALLS DELAY``; then ``["call"]``, ``["follow"]`` and ``["finish"]``."""
    realm, count, delay = sys.argv[1:]
    follower = Follower(realm, int(count), float(delay))
    say("ready")
    while (command := hear()) is not None:
        match command:
            case ["call"]:
                say("call", **asdict(follower.call()))
            case ["follow"]:
                follower.follow()
                say("follow")
            case ["finish"]:
                say("finish", **asdict(follower.finish()))


if __name__ == "__main__":
    main()
