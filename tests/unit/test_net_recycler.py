from __future__ import annotations

import gc

import numpy as np
import pytest

from heros import limits
from heros.net import recycler


@pytest.fixture(autouse=True)
def _empty() -> None:
    recycler._free.clear()


def test_memory_comes_back_with_the_last_view() -> None:
    lent = recycler.lend(1000)
    address = lent.ctypes.data
    view = np.frombuffer(lent.data.toreadonly()[100:200], np.uint8)[::2]
    del lent
    gc.collect()
    assert recycler.lend(1000).ctypes.data != address
    recycler._free.clear()
    view = view[:1]
    assert not recycler._free
    del view
    gc.collect()
    assert recycler.lend(1000).ctypes.data == address


def test_only_the_same_size_is_used_again() -> None:
    recycler.lend(1000)
    gc.collect()
    held = recycler.lend(999)
    assert held.nbytes == 999
    assert [memory.nbytes for memory in recycler._free] == [1000]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NET_RECYCLED_BYTES", 5000)
    lent = [recycler.lend(1000 + number) for number in range(10)] + [recycler.lend(5001)]
    lent.clear()
    gc.collect()
    assert len(recycler._free) == limits.NET_RECYCLED_BUFFERS
    assert all(memory.nbytes < 5000 for memory in recycler._free)
