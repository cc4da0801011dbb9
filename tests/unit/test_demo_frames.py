"""The demo's frames and what a reader counts: the checks that the demo stands on must be able to fail."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from heros.demo.frames import SHAPE, WINDOWS, Scene, intact
from heros.demo.photos import mosaic, photographs
from heros.demo.tally import FrameTally, TelemetryTally


@pytest.fixture(scope="module")
def scene():
    return Scene(mosaic())


def frame(scene, number):
    image = np.empty(SHAPE, np.uint8)
    checksum = scene.expose(image, number)
    return {"number": number, "checksum": checksum, "image": image}


def test_photographs_are_photographs():
    pictures = photographs()
    assert len(pictures) == 4
    for picture in pictures.values():
        assert picture.shape == (512, 512)
        assert picture.dtype == np.uint8
        assert len(np.unique(picture)) > 100
    assert mosaic().shape == SHAPE


def test_the_checksum_covers_every_byte(scene):
    for number in (1, 2, WINDOWS, WINDOWS + 1, 2**40):
        sample = frame(scene, number)
        assert sample["checksum"] == zlib.crc32(sample["image"].tobytes())
        assert intact(sample)


def test_no_two_frames_are_equal(scene):
    samples = [frame(scene, number) for number in range(1, 2 * WINDOWS + 1)]
    assert len({sample["checksum"] for sample in samples}) == len(samples)
    assert len({sample["image"][:-1].tobytes() for sample in samples}) == WINDOWS


@pytest.mark.parametrize("place", [(0, 0), (511, 300), (1023, 1000), (1023, 1023)])
def test_one_wrong_byte_is_noticed(scene, place):
    sample = frame(scene, 7)
    sample["image"][place] ^= 1
    assert not intact(sample)


@pytest.mark.parametrize(
    "change",
    [
        lambda sample: {"number": 8},
        lambda sample: {"checksum": sample["checksum"] ^ 1},
        lambda sample: {"image": sample["image"].reshape(-1)},
        lambda sample: {"image": sample["image"].view(np.int8)},
        lambda sample: {"image": sample["image"][:-1]},
        lambda sample: {"image": sample["image"].tobytes()},
        lambda sample: {"image": None},
    ],
)
def test_a_frame_that_is_not_what_was_sent_is_noticed(scene, change):
    sample = frame(scene, 7)
    assert not intact(sample | change(sample))


def test_an_old_frame_under_a_new_number_is_noticed(scene):
    """What a slot that is reused too early looks like: everything fits, but the pixels tell another number."""
    old, new = frame(scene, 7), frame(scene, 8)
    new["image"][:] = old["image"]
    assert not intact(new | {"checksum": old["checksum"]})


def test_tally_counts_gaps_before_between_and_after(scene):
    tally = FrameTally(published=10)
    for number in (13, 14, 20):  # missed: 11, 12; 15 to 19
        tally.take(frame(scene, number))
    assert (tally.received, tally.intact, tally.disordered) == (3, 3, 0)
    assert tally.missed(20) == 7
    assert tally.missed(25) == 12


def test_tally_of_nothing_received():
    assert FrameTally(published=10).missed(25) == 15


def test_tally_notices_repeated_disordered_and_damaged_frames(scene):
    tally = FrameTally(published=0)
    damaged = frame(scene, 5)
    damaged["image"][100, 100] ^= 0x80
    for sample in (frame(scene, 3), frame(scene, 3), frame(scene, 2), frame(scene, 4), damaged):
        tally.take(sample)
    assert (tally.received, tally.intact, tally.disordered) == (5, 4, 2)
    assert tally.missed(5) == 2


TELEMETRY = {"cpu": 12.5, "memory": 2.0**33, "load": 0.7}


def values(telemetry):
    return [{"id": name, "raw_value": value, "raw_unit": "", "time": 1.0} for name, value in telemetry.items()]


def test_telemetry_tally():
    tally = TelemetryTally()
    tally.take(values(TELEMETRY))
    assert (tally.good, tally.faulty) == (1, 0)
    for faulty in ({}, {"cpu": 1.0}, TELEMETRY | {"load": float("nan")}, TELEMETRY | {"disk": 1.0}):
        tally.take(values(faulty))
    assert (tally.good, tally.faulty) == (1, 4)
