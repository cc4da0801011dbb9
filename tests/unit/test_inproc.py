"""What ``inproc`` copies, and what it hands over as it is; and an end that comes in the middle of a publication."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heros import inproc
from heros.buffers import Buffer, settle_buffer
from heros.inproc import InprocChannel
from heros.transport import Payload, Peer
from heros.wire import Kind
from heros.workers import Workers
from tests.conformance.service import Recorder, Service
from tests.harness import wait_until

DATA = np.arange(24, dtype=np.uint16)


def owned() -> tuple[Any, np.ndarray]:
    array = DATA.copy()
    return array, array


def read_only_for_a_while() -> tuple[Any, np.ndarray]:
    array = DATA.copy()
    view = array[:]
    array.flags.writeable = False
    return array, view


def read_only_view() -> tuple[Any, np.ndarray]:
    array = DATA.copy()
    view = array.view()
    view.flags.writeable = False
    return view, array


def read_only_memoryview_of_a_writable_array() -> tuple[Any, np.ndarray]:
    array = DATA.copy()
    return np.frombuffer(array.data.toreadonly(), np.uint16), array


def over_a_bytearray() -> tuple[Any, np.ndarray]:
    memory = bytearray(DATA.tobytes())
    return np.frombuffer(memoryview(memory).toreadonly(), np.uint16), np.frombuffer(memory, np.uint16)


def over_a_writable_mapping() -> tuple[Any, np.ndarray]:
    mapping = mmap.mmap(-1, DATA.nbytes)
    array = np.frombuffer(mapping, np.uint16, 24)
    array[:] = DATA
    view = array.view()
    view.flags.writeable = False
    return view, array


def bytes_like() -> tuple[Any, np.ndarray]:
    memory = bytearray(DATA.tobytes())
    return memory, np.frombuffer(memory, np.uint16)


COPIED = [
    owned,
    read_only_for_a_while,
    read_only_view,
    read_only_memoryview_of_a_writable_array,
    over_a_bytearray,
    over_a_writable_mapping,
    bytes_like,
]


@pytest.mark.parametrize("make", COPIED)
def test_what_can_still_change_is_copied(make: Callable[[], tuple[Buffer, np.ndarray]]) -> None:
    sent, alias = make()
    received = settle_buffer(sent)
    assert bytes(received) == DATA.tobytes()
    if alias.flags.writeable:
        alias[:] = 0
    assert bytes(received) == DATA.tobytes()
    assert isinstance(received, np.ndarray)
    assert not np.shares_memory(received, alias)
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        received.flags.writeable = True


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_was_received_is_passed_on_as_it_is(order: Any) -> None:
    received = settle_buffer(DATA.copy())
    assert isinstance(received, np.ndarray)
    shaped = received.view(np.uint16).reshape(4, 6, order=order)
    passed_on = settle_buffer(shaped)
    assert isinstance(passed_on, np.ndarray)
    assert np.shares_memory(passed_on, received)
    assert bytes(passed_on) == DATA.tobytes()
    strided = settle_buffer(shaped[::2])
    assert isinstance(strided, np.ndarray)
    assert bytes(strided) == shaped[::2].tobytes()
    assert not np.shares_memory(strided, received)


def test_immutable_memory_is_handed_over() -> None:
    data = DATA.tobytes()
    assert settle_buffer(data) is data
    array = np.frombuffer(data, np.uint16)
    received = settle_buffer(array)
    assert isinstance(received, np.ndarray)
    assert np.shares_memory(received, array)


def test_a_file_that_others_may_write_to_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA.tobytes())
    array = np.memmap(path, np.uint16, "r")
    received = settle_buffer(array)
    assert isinstance(received, np.ndarray)
    assert not np.shares_memory(received, array)
    assert bytes(received) == DATA.tobytes()


@pytest.mark.parametrize("empty", [np.empty((0, 3)), np.empty((3, 0), order="F"), b"", bytearray(), np.empty(2, "V0")])
def test_nothing_is_nothing(empty: Buffer) -> None:
    assert settle_buffer(empty) == b""


class _ClosingPayload(Payload):
    """Closes the channel in the middle of ``publish``, when its buffers are looked at."""

    __slots__ = ("channel", "inner")

    @property  # type: ignore[override]
    def buffers(self) -> Sequence[Buffer]:
        self.channel.close()
        return self.inner

    def __init__(self, channel: InprocChannel) -> None:
        self.inner: Sequence[Buffer] = [DATA]
        self.channel = channel
        self.header = b"0"
        self.nbytes = DATA.nbytes
        self.staged = None


def test_no_frame_follows_an_end_that_overtakes_it() -> None:
    workers, recorder = Workers("inproc-test"), Recorder()
    channel = inproc.connect(Peer("1", 1, "here"), Service(print), recorder, workers)
    assert not channel.link.publish(Kind.SAMPLE, 1, 1, 1, _ClosingPayload(channel))
    wait_until(lambda: recorder.ended)
    workers.stop()
    assert recorder.events == []
    assert recorder.wrong == []
