"""The arena, its pools, and what is lent from it; in one process."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import sys
import threading
from collections import deque

import numpy as np
import pytest

from heros import limits
from heros.exceptions import DecodeError, EncodeError, OutOfSharedMemory, PoolExhausted
from heros.shm import FramePool, empty, layout

if sys.platform != "linux":
    pytest.skip("shared memory needs Linux", allow_module_level=True)

from heros.shm import views
from heros.shm.arena import Arena, Loan, process_arena, size_class
from heros.shm.doorbell import CLOSED, Doorbell
from heros.shm.leases import Borrowed, Lent
from heros.shm.records import decode, encode, leases_of, stage
from heros.shm.segment import Segment, map_shared
from heros.wire import FRAME
from tests.harness import wait_until

MIB = limits.MIB


def make_lent(arena: Arena) -> tuple[Lent, list[Segment], list[Segment]]:
    announced: list[Segment] = []
    retired: list[Segment] = []
    return Lent(arena, announced.append, retired.append), announced, retired


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- size classes and slots -------------------------------------------------------------------------------------


def test_size_classes_waste_little() -> None:
    for nbytes in [1, 4097, 8192, 8193, MIB, MIB + 1, 5 * MIB, 8 * MIB, 33 * MIB, 64 * MIB + 1]:
        size = size_class(nbytes)
        assert size >= nbytes
        assert size <= max(2 * limits.INLINE_BYTES, 2 * nbytes)
        if nbytes > MIB:
            assert size <= 1.25 * nbytes + 1
        assert size % layout.PAGE == 0
        assert size_class(size) == size


def test_slots_of_one_segment_do_not_overlap_and_come_back() -> None:
    arena = Arena(64 * MIB)
    slots = [arena.allocate(MIB) for _ in range(8)]
    places = {(slot.segment.number, slot.offset) for slot in slots}
    assert len(places) == 8
    assert len({number for number, _ in places}) == 1
    assert arena.owned == limits.SEGMENT_BYTES
    del slots
    again = [arena.allocate(MIB) for _ in range(8)]
    assert {(slot.segment.number, slot.offset) for slot in again} == places
    assert arena.owned == limits.SEGMENT_BYTES


def test_the_quota_holds_and_unused_segments_make_room() -> None:
    arena = Arena(16 * MIB)
    lent, announced, retired = make_lent(arena)
    first = arena.allocate(8 * MIB)
    lease, _ = lent.lend(Loan(first, first.segment, first.offset, 8 * MIB))
    second = arena.allocate(8 * MIB)
    with pytest.raises(OutOfSharedMemory, match="HEROS_SHM_QUOTA"):
        arena.allocate(4 * MIB)
    number = first.segment.number
    del first
    gc.collect()
    with pytest.raises(OutOfSharedMemory):
        arena.allocate(4 * MIB)  # the lease holds it
    lent.release([lease])
    assert arena.allocate(4 * MIB).length == 4 * MIB
    assert [segment.number for segment in retired] == [segment.number for segment in announced] == [number]
    assert arena.owned <= 16 * MIB
    del second


def test_no_descriptor_remains() -> None:
    before = open_fds()
    arena = Arena(64 * MIB)
    slot = arena.allocate(MIB)
    assert open_fds() == before + 1
    del slot, arena
    gc.collect()
    assert open_fds() == before


# -- arrays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "f8", ">i4", "M8[ns]", "c16", [("a", "u1"), ("b", "f4")], "U3", bool])
@pytest.mark.parametrize("shape", [7, (3, 4), (2, 3, 5), (), (0, 4)])
def test_empty_makes_writable_arrays(shape: int | tuple[int, ...], dtype: object) -> None:
    array = empty(shape, dtype)  # type: ignore[arg-type]
    reference = np.zeros(shape, dtype)  # type: ignore[call-overload]
    array[...] = reference
    assert array.shape == reference.shape
    assert array.dtype == reference.dtype
    assert array.flags.writeable
    assert array.flags.c_contiguous
    assert (array == reference).all()


def test_empty_in_fortran_order() -> None:
    array = empty((3, 4), "f4", order="F")
    assert array.flags.f_contiguous
    assert not array.flags.c_contiguous


def test_empty_refuses_what_cannot_be_shared() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        empty(3, object)
    with pytest.raises(TypeError, match="Python objects"):
        empty(3, [("a", object)])
    with pytest.raises(ValueError, match="negative"):
        empty((3, -1))
    with pytest.raises(ValueError, match="order"):
        empty(3, order="K")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        empty((3.5,))  # type: ignore[arg-type]


def test_find_walks_to_the_root_of_any_view() -> None:
    array = empty((64, 64), "f8")
    for view in [array, array[3:5], array.T, array.reshape(-1)[7:], memoryview(array), np.asarray(memoryview(array))]:
        found = views.find(view)
        assert found is not None
    assert views.find(np.zeros(3)) is None
    assert views.find(b"x") is None
    assert views.find(array.copy()) is None


def test_what_is_sent_is_frozen_and_not_copied() -> None:
    arena = Arena(64 * MIB)
    array = empty((64, 64), "f8")
    part = array[10:30]
    loan = arena.place(part, part.nbytes)
    assert loan is not None
    assert arena.owned == 0
    address = part.__array_interface__["data"][0]
    assert loan.segment.address + loan.offset == address
    assert loan.length == part.nbytes
    for frozen in [array, part]:
        assert not frozen.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            frozen[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        array[40:][0, 0] = 1


def test_a_small_pooled_array_is_frozen_too() -> None:
    array = empty(4, "f8")
    assert Arena(MIB).place(array, array.nbytes) is None
    assert not array.flags.writeable


def test_views_with_gaps_are_copied() -> None:
    arena = Arena(64 * MIB)
    array = empty((128, 128), "f8")
    array[...] = np.arange(128 * 128).reshape(128, 128)
    gaps = array[:, ::2]
    loan = arena.place(gaps, gaps.nbytes)
    assert loan is not None
    assert arena.owned > 0
    data = np.frombuffer(loan.segment.memory, "f8", gaps.size, loan.offset).reshape(gaps.shape)
    assert (data == gaps).all()


def test_memory_is_reused_only_when_the_array_and_every_lease_are_gone() -> None:
    arena = Arena(64 * MIB)
    lent, _, _ = make_lent(arena)
    pool = FramePool((100, 100), "u1", 1)
    frame = pool.acquire(0)
    loan = arena.place(frame, frame.nbytes)
    assert loan is not None
    first, _ = lent.lend(loan)
    second, _ = lent.lend(loan)
    del frame, loan
    assert pool.acquire_nowait() is None
    lent.release([first])
    assert pool.acquire_nowait() is None
    lent.release([second])
    assert pool.acquire_nowait() is not None
    assert pool.skipped == 2


# -- frame pools ------------------------------------------------------------------------------------------------


def test_pool_gives_each_frame_once() -> None:
    pool = FramePool((10, 20), "u2", 3)
    frames = [pool.acquire() for _ in range(3)]
    assert len({frame.__array_interface__["data"][0] for frame in frames}) == 3
    assert all(frame.__array_interface__["data"][0] % layout.PAGE == 0 for frame in frames)
    assert all(frame.shape == (10, 20) and frame.dtype == np.uint16 and frame.flags.writeable for frame in frames)
    with pytest.raises(PoolExhausted, match="acquire_nowait"):
        pool.acquire(timeout=0)
    part = frames.pop()[3:]
    assert pool.acquire_nowait() is None
    del part
    assert pool.acquire(timeout=0).flags.writeable


def test_pool_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FramePool(3, "u1", 0)
    with pytest.raises(TypeError):
        FramePool(3, "u1", 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Python objects"):
        FramePool(3, "O", 1)
    with pytest.raises(ValueError, match="negative"):
        FramePool(-3, "u1", 1)


def test_closed_pool_keeps_frames_valid() -> None:
    process_arena().tidy()  # of pools of other tests
    before = open_fds()
    pool = FramePool(100_000, "u1", 2)
    frame = pool.acquire()
    frame[:] = 7
    pool.close()
    with pytest.raises(ValueError, match="closed"):
        pool.acquire()
    assert (frame == 7).all()
    del frame
    FramePool(10, "u1", 1).close()  # whatever comes next clears up
    del pool
    gc.collect()
    assert open_fds() == before


def test_a_pool_that_is_collected_while_the_arena_works_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena(64 * MIB)
    monkeypatch.setattr("heros.shm.pool.process_arena", lambda: arena)
    pools = [FramePool(5000, "u1", 1)]
    create = Segment.create

    def collect_and_create(size: int) -> Segment:  # runs under the arena's lock, as the collector may
        pools.clear()
        return create(size)

    monkeypatch.setattr(Segment, "create", collect_and_create)
    worker = threading.Thread(target=arena.allocate, args=(1,), daemon=True)
    worker.start()
    wait_until(lambda: not worker.is_alive(), what="the end of an allocation in which a pool was collected")
    owned = arena.owned
    FramePool(5000, "u1", 1).close()
    assert arena.owned == owned - 2 * layout.PAGE, "what was collected is given up with the next segment"


def test_a_pool_without_shared_memory_works_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heros.shm.pool.AVAILABLE", False)
    pool = FramePool((2, 2), "f4", 1)
    frame = pool.acquire()
    assert frame.flags.writeable
    assert pool.acquire_nowait() is None
    del frame
    assert pool.acquire(timeout=0).shape == (2, 2)
    assert empty((2, 3), "i2").flags.writeable


# -- lending ----------------------------------------------------------------------------------------------------


def test_a_segment_is_announced_once_and_before_its_first_use() -> None:
    arena = Arena(64 * MIB)
    lent, announced, _ = make_lent(arena)
    for _ in range(3):
        slot = arena.allocate(MIB)
        lent.lend(Loan(slot, slot.segment, slot.offset, MIB))
    assert len(announced) == 1


def test_a_hoarding_reader_gets_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASES_PER_PEER", 2)
    arena = Arena(64 * MIB)
    lent, _, _ = make_lent(arena)
    slot = arena.allocate(MIB)
    loan = Loan(slot, slot.segment, slot.offset, MIB)

    def flags() -> int:
        return int(layout.DESCRIPTOR.unpack(lent.lend(loan)[1])[1])

    assert [flags() for _ in range(3)] == [0, 0, layout.COPY]
    lent.release([1, 2])
    assert flags() == 0


def test_one_reader_holds_at_most_half_a_pool() -> None:
    arena = Arena(64 * MIB)
    lent, _, _ = make_lent(arena)
    pool = FramePool(10_000, "u1", 4)
    frames = [pool.acquire() for _ in range(3)]
    loans = [arena.place(frame, frame.nbytes) for frame in frames]
    flags = [layout.DESCRIPTOR.unpack(lent.lend(loan)[1])[1] for loan in loans if loan is not None]
    assert flags == [0, 0, layout.COPY]
    other, _, _ = make_lent(arena)
    assert loans[0] is not None
    assert not other.over_share(loans[:1])


def test_a_lease_that_was_not_lent_is_refused() -> None:
    lent, _, _ = make_lent(Arena(MIB))
    with pytest.raises(DecodeError, match="lease 5"):
        lent.release([5])


# -- records ----------------------------------------------------------------------------------------------------


class Loop:
    """Both ends of a channel's memory, without a channel."""

    def __init__(self, longest: int = 30_000) -> None:
        self.arena = Arena(256 * MIB)
        self.borrowed = Borrowed(lambda: None, lambda: None)
        self.lent = Lent(
            self.arena,
            lambda segment: self.borrowed.announced(segment.number, Segment.receive(os.dup(segment.fd))),
            lambda segment: None,
        )
        self.longest = longest

    def round_trip(self, header: bytes, buffers: list[object]) -> tuple[bytes, list[bytes]]:
        frame = FRAME.pack(1, 0, 0, 0, 7, 8, 9, len(header), len(buffers))
        body = stage(self.arena, buffers)  # type: ignore[arg-type]
        record = encode(frame, header, body, self.lent, self.arena, self.longest)
        assert len(record.body) <= self.longest
        fields, received, got = decode(record.tag, record.body, self.borrowed.borrow)
        assert fields == (1, 0, 0, 0, 7, 8, 9, len(header), len(buffers))
        self.got = list(got)
        return received, [bytes(memoryview(buffer)) for buffer in got]


@pytest.mark.parametrize("sizes", [[], [0], [1, 0, 5], [4096], [4097], [100, 70_000, 3], [4096] * 20, [10] * 4096])
@pytest.mark.parametrize("header_bytes", [0, 1, 29_000, 200_000])
def test_frames_come_out_as_they_went_in(header_bytes: int, sizes: list[int]) -> None:
    header = os.urandom(header_bytes)
    buffers = [os.urandom(size) for size in sizes]
    loop = Loop()
    assert loop.round_trip(header, list(buffers)) == (header, buffers)


def test_arrays_of_any_strides() -> None:
    array = np.arange(60_000, dtype="i4").reshape(200, 300)
    views = [array, array.T, array[::2, 1:], array[:, ::-1], np.asfortranarray(array), array[:10, :10], array[0, 0:0]]
    for value in views:
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        _, (data,) = Loop().round_trip(b"", [value])
        assert data == value.tobytes(order)  # type: ignore[arg-type]


def test_received_views_are_read_only_and_give_their_lease_back() -> None:
    loop = Loop()
    loop.round_trip(b"", [np.ones(100_000, "u1")])
    (view,) = loop.got
    assert isinstance(view, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    part = view[5:10].view("i1")
    loop.got.clear()
    del view
    assert not loop.borrowed.returned
    assert loop.borrowed.outstanding
    del part
    leases = loop.borrowed.take_returned(10)
    assert len(leases) == 1
    assert not loop.borrowed.outstanding
    loop.lent.release(leases)
    assert not loop.lent.loans


def test_a_received_array_that_is_passed_on_is_not_copied() -> None:
    first, second = Loop(), Loop()
    first.round_trip(b"", [np.arange(100_000, dtype="u1")])
    (view,) = first.got
    second.round_trip(b"", [view])
    assert second.arena.owned == 0
    (loan,) = second.lent.loans.values()
    assert loan.holder is view
    assert bytes(memoryview(second.got[0])) == bytes(memoryview(view))  # type: ignore[arg-type]


def test_too_many_buffers_are_refused_at_the_sender() -> None:
    with pytest.raises(EncodeError, match="4097"):
        Loop().round_trip(b"", [b""] * 4097)


def test_malformed_records_are_decode_errors() -> None:
    loop = Loop()
    slot = loop.arena.allocate(MIB)
    lease, good = loop.lent.lend(Loan(slot, slot.segment, slot.offset, MIB))
    number, size = slot.segment.number, slot.segment.size

    def frame(header: int, count: int) -> bytes:
        return FRAME.pack(1, 0, 0, 0, 7, 8, 9, header, count)

    descriptor = layout.DESCRIPTOR.pack
    for tag, data in [
        (layout.FRAME, b""),
        (layout.FRAME, frame(0, 0)[:-1]),
        (layout.FRAME, frame(5, 0) + b"1234"),
        (layout.FRAME, frame(3, 0) + b"1234"),
        (layout.FRAME, frame(0, 1)),
        (layout.FRAME, frame(0, 2) + good),
        (layout.FRAME, frame(1, 1) + good),
        (layout.FRAME, frame(0, 1) + good + b"x"),
        (layout.FRAME, frame(0, 0xFFFFFFFF) + good),
        (layout.FRAME, frame(0xFFFFFFFF, 1) + good),
        (layout.FRAME, frame(0, 1) + descriptor(0, 0, 0, 5, 0) + b"1234"),
        (layout.FRAME, frame(0, 1) + descriptor(0, 0, 0, 2**64 - 1, 0)),
        (layout.FRAME, frame(0, 1) + descriptor(number, 0, size, 1, lease)),
        (layout.FRAME, frame(0, 1) + descriptor(number, 0, 2**64 - 1, 2, lease)),
        (layout.FRAME, frame(0, 1) + descriptor(number, 0, 1, size, lease)),
        (layout.FRAME, frame(0, 1) + descriptor(number, 0, 0, 0, lease)),
        (layout.FRAME, frame(0, 1) + descriptor(number + 1000, 0, 0, 1, lease)),
        (layout.SPILLED, frame(0, 0)),
        (layout.SPILLED, frame(0, 0) + descriptor(0, 0, 0, 5, 0)),
        (layout.SPILLED, frame(0, 0) + good),
        (77, frame(0, 1) + good),
        (0, frame(4, 0) + b"1234"),
    ]:
        with pytest.raises(DecodeError):
            decode(tag, data, loop.borrowed.borrow)
    with pytest.raises(DecodeError):
        leases_of(b"123")


# -- segments ---------------------------------------------------------------------------------------------------


def test_a_receiver_cannot_map_an_arena_segment_writable() -> None:
    segment = Segment.create(8192)
    with pytest.raises(OSError, match=r"ermission|ermitted"):
        os.write(segment.fd, b"x")
    with pytest.raises(PermissionError):
        mmap.mmap(segment.fd, 8192)
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 10)


def test_segments_without_seals_are_refused() -> None:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, 8192)
    before = open_fds()
    with pytest.raises(DecodeError, match="not sealed"):
        Segment.receive(fd)
    assert open_fds() == before - 1
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, 8192)
    with pytest.raises(DecodeError, match="not sealed"):
        map_shared(fd, 8192)
    os.posix_fallocate(fd, 0, 8192)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    with pytest.raises(DecodeError, match="8193"):
        map_shared(fd, 8193)
    os.close(fd)


def received(size: int, allocated: int, seals: int) -> int:
    """A sealed memfd of ``size`` bytes, of which only the first are there."""
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    if allocated:
        os.posix_fallocate(fd, 0, allocated)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
READ_ONLY = FIXED_SIZE | 0x10


def test_a_segment_that_its_owner_has_not_allocated_is_refused() -> None:
    with pytest.raises(DecodeError, match="not allocated"):  # mapping it would allocate the rest
        Segment.receive(received(2 * layout.PAGE, layout.PAGE, READ_ONLY))
    assert Segment.receive(received(layout.PAGE + 1, layout.PAGE + 1, READ_ONLY)).size == layout.PAGE + 1
    fd = received(layout.PAGE, 0, FIXED_SIZE)
    with pytest.raises(DecodeError, match="not allocated"):
        map_shared(fd, layout.PAGE)
    os.close(fd)


def test_a_segment_that_is_larger_than_any_may_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SEGMENT_BYTES", layout.PAGE)
    with pytest.raises(DecodeError, match="may have"):
        Segment.receive(received(2 * layout.PAGE, 2 * layout.PAGE, READ_ONLY))
    with pytest.raises(OutOfSharedMemory, match="at most"):
        Segment.create(2 * layout.PAGE)


def test_a_doorbell_that_is_gone_rings_for_nobody() -> None:
    bell = Doorbell()
    bell.abandon()
    for silent in (bell, CLOSED):
        silent.ring()
        silent.clear()


def test_a_descriptor_that_is_no_memory_is_refused() -> None:
    with pytest.raises(DecodeError, match="not a segment"):
        Segment.receive(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))


def test_too_large_a_segment_is_a_typed_error() -> None:
    with pytest.raises(OutOfSharedMemory):
        Segment.create(1 << 60)


def test_views_outlive_everything() -> None:
    returned: deque[int] = deque()
    owner = Segment.create(layout.PAGE)
    owner.memory[:4] = b"1234"
    received = Segment.receive(os.dup(owner.fd))
    view = views.borrow(received, 0, 4, 1, returned)
    del owner, received
    gc.collect()
    assert bytes(memoryview(view)) == b"1234"
    del view
    assert list(returned) == [1]
