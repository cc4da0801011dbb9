"""The demo's verdict: one thing that is not as it should be makes it fail, and is named."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from heros.demo.measured import Acquisition, Calls, Frames, Reading, problems
from heros.demo.report import show

CAMERA = Acquisition(frames=4000, seconds=4.0, longest_publish=0.004, skipped=3)
CALLS = Calls(transports={"camera": "shm", "host": "shm"}, p50=12.3e-6, p99=45.6e-6, attribute=True)
FRAMES = Frames(
    received=7000,
    in_time=6000,
    intact=7000,
    disordered=0,
    counted=1000,
    reported=1000,
    telemetry=30,
    telemetry_faulty=0,
)
READING = Reading("local", "shm", CALLS, FRAMES, seconds=8.0)


def test_nothing_wrong():
    assert problems([CAMERA, CAMERA], [READING, READING]) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"intact": 6999}, "1 of 7000 frames were damaged"),
        ({"counted": 1001}, "1001 frames are missing, but 1000 were reported"),
        ({"reported": 1001}, "1000 frames are missing, but 1001 were reported"),
        ({"received": 0, "intact": 0}, "not one frame"),
        ({"disordered": 1}, "out of order"),
        ({"telemetry": 0}, "of the telemetry, 0 samples"),
        ({"telemetry_faulty": 2}, "2 faulty"),
    ],
)
def test_wrong_frames(change, words):
    (problem,) = problems([CAMERA], [READING, replace(READING, frames=replace(FRAMES, **change))])
    assert words in problem
    assert problem.startswith("local: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transports": {"camera": "shm", "host": "net"}}, "host is reached through net, not shm"),
        ({"attribute": False}, "did not read back"),
    ],
)
def test_wrong_calls(change, words):
    (problem,) = problems([CAMERA], [replace(READING, calls=replace(CALLS, **change))])
    assert words in problem


@pytest.mark.parametrize(
    ("change", "words"),
    [({"frames": 0}, "published no frame"), ({"longest_publish": 0.9}, "waited for a reader")],
)
def test_wrong_acquisition(change, words):
    (problem,) = problems([CAMERA, replace(CAMERA, **change)], [READING])
    assert words in problem


def shown(readings):
    console = Console(file=io.StringIO(), width=120)
    succeeded = show(console, CAMERA, replace(CAMERA, frames=3900), readings)
    return succeeded, " ".join(console.file.getvalue().split())


def test_the_table_shows_what_was_measured():
    succeeded, text = shown([READING])
    assert succeeded
    for words in ("shm", "12.3", "45.6", "750.0", "786", "1,000", "7,000", "x 0.97", "4.0 ms", "OK"):
        assert words in text


def test_a_problem_is_shown_and_fails():
    succeeded, text = shown([READING, replace(READING, frames=replace(FRAMES, intact=6999))])
    assert not succeeded
    assert "6,999" in text
    assert "FAILED local: 1 of 7000 frames were damaged" in text
    assert "OK" not in text
