"""The layout is what its diagrams say."""

from __future__ import annotations

import itertools

from heros import limits, wire
from heros.shm import layout

CAPACITIES = (limits.REQUEST_RING_BYTES, limits.REPLY_RING_BYTES, limits.EVENT_RING_BYTES)


def test_each_counter_has_cache_lines_of_its_own() -> None:
    offsets = [layout.TAIL, layout.HEAD, layout.SLEEPING, layout.DATA]
    assert all(offset % 128 == 0 for offset in offsets)
    assert all(later - earlier >= 128 for earlier, later in itertools.pairwise(offsets))


def test_rings_are_aligned_in_the_channels_segment() -> None:
    offset = layout.RINGS_OFFSET
    assert offset >= layout.NONCE_BYTES
    for capacity in CAPACITIES:
        assert offset % 128 == 0
        assert capacity & (capacity - 1) == 0
        offset += layout.ring_bytes(capacity)
    assert offset <= layout.channel_bytes(CAPACITIES)
    assert layout.channel_bytes(CAPACITIES) % layout.PAGE == 0


def test_an_ordinary_frame_fits_into_a_record() -> None:
    for capacity in CAPACITIES:
        assert layout.max_record(capacity) > wire.FRAME.size + layout.DESCRIPTOR.size + limits.INLINE_BYTES
        assert layout.max_record(capacity) <= layout.LENGTH_MASK


def test_descriptor_and_lease_have_no_padding() -> None:
    assert layout.DESCRIPTOR.size == 32
    assert layout.LEASE.size == 8
    assert len({layout.WRAP, layout.FRAME, layout.SPILLED, layout.RELEASE, 0}) == 5
