"""What the demo measures, and what has to be true of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["SLOW_SECONDS", "Acquisition", "Calls", "Frames", "Reading", "problems"]

SLOW_SECONDS: Final = 1.0
"""How long the slow reader takes for one frame."""

BLOCKED_SECONDS: Final = SLOW_SECONDS / 2
"""A publish that took longer than this has waited for the slow reader. A busy machine costs it far less."""


@dataclass(frozen=True)
class Acquisition:
    """One run of the camera. ``skipped`` frames found no free place in the pool; times are in seconds."""

    frames: int
    seconds: float
    longest_publish: float
    skipped: int


@dataclass(frozen=True)
class Calls:
    """What a reader found before the acquisition: the transport to each HERO, and call times in seconds."""

    transports: Mapping[str, str]
    p50: float
    p99: float
    attribute: bool
    """Whether the attribute read back what had been written."""


@dataclass(frozen=True)
class Frames:
    """What a reader got from both events."""

    received: int
    in_time: int
    """Those of them that had been checked when the camera stopped."""
    intact: int
    disordered: int
    """Frames whose number was not above the one before."""
    counted: int
    """Frames missed, from the numbers of those that came."""
    reported: int
    """Frames missed, as ``camera.frames.missed`` says."""
    telemetry: int
    """Samples of the event of ``host`` with all three values."""
    telemetry_faulty: int


@dataclass(frozen=True)
class Reading:
    """All about one reader. ``seconds`` is how long the camera ran while it followed."""

    reader: str
    transport: str
    """The transport it should use."""
    calls: Calls
    frames: Frames
    seconds: float


def problems(acquisitions: Sequence[Acquisition], readings: Sequence[Reading]) -> list[str]:
    """Everything that is not as it should be, in words; nothing if the demo succeeded."""
    found = []
    for acquisition in acquisitions:
        if not acquisition.frames:
            found.append("the camera published no frame")
        if acquisition.longest_publish > BLOCKED_SECONDS:
            found.append(f"one publish took {acquisition.longest_publish:.2f} s: the acquisition waited for a reader")
    for reading in readings:
        found += [f"{reading.reader}: {problem}" for problem in _reading_problems(reading)]
    return found


def _reading_problems(reading: Reading) -> list[str]:
    calls, frames = reading.calls, reading.frames
    found = [
        f"{hero} is reached through {transport}, not {reading.transport}"
        for hero, transport in calls.transports.items()
        if transport != reading.transport
    ]
    if not calls.attribute:
        found.append("the attribute did not read back what had been written")
    if not frames.received:
        found.append("not one frame arrived")
    if frames.intact != frames.received:
        found.append(f"{frames.received - frames.intact} of {frames.received} frames were damaged")
    if frames.disordered:
        found.append(f"{frames.disordered} frames came twice or out of order")
    if frames.counted != frames.reported:
        found.append(f"{frames.counted} frames are missing, but {frames.reported} were reported as missed")
    if not frames.telemetry or frames.telemetry_faulty:
        found.append(f"of the telemetry, {frames.telemetry} samples were good and {frames.telemetry_faulty} faulty")
    return found
