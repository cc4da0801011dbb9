"""The codec against msgpack alone, and an array's header whatever the array's size."""

from __future__ import annotations

from functools import partial

import msgpack
import numpy as np
import pytest

from benchmarks.conftest import Compare
from benchmarks.measure import loop
from heros.codec import decode, encode, encode_arguments

LOOPS = 400
SIZES = pytest.mark.parametrize("size", [pytest.param(1 << 10, id="1 KiB"), pytest.param(32 << 20, id="32 MiB")])
DESCRIPTION = ("|u1", 1 << 20, 0)
"""What there is to say of an array, as msgpack would say it."""


def test_arguments_encode(compare: Compare) -> None:
    case = partial(encode_arguments, (1, 2), {})
    compare(loop(case, LOOPS), loop(partial(msgpack.packb, [[1, 2], {}]), LOOPS), "packb")


def test_arguments_decode(compare: Compare) -> None:
    header, _ = encode_arguments((1, 2), {})
    unpack = partial(msgpack.unpackb, header, strict_map_key=False)
    compare(loop(lambda: decode(header), LOOPS), loop(unpack, LOOPS), "unpackb")


def test_mixed_arguments_encode(compare: Compare) -> None:
    args, kwargs = (1, 2.5, "x"), {"gain": 3.0, "channels": [1, 2, 3]}
    case = partial(encode_arguments, args, kwargs)
    compare(loop(case, LOOPS), loop(partial(msgpack.packb, [args, kwargs]), LOOPS), "packb")


def test_mixed_arguments_decode(compare: Compare) -> None:
    header, _ = encode_arguments((1, 2.5, "x"), {"gain": 3.0, "channels": [1, 2, 3]})
    unpack = partial(msgpack.unpackb, header, strict_map_key=False)
    compare(loop(lambda: decode(header), LOOPS), loop(unpack, LOOPS), "unpackb")


def test_result_encode(compare: Compare) -> None:
    compare(loop(partial(encode, 3.5), LOOPS), loop(partial(msgpack.packb, 3.5), LOOPS), "packb")


def test_result_decode(compare: Compare) -> None:
    header, _ = encode(3.5)
    unpack = partial(msgpack.unpackb, header, strict_map_key=False)
    compare(loop(lambda: decode(header), LOOPS), loop(unpack, LOOPS), "unpackb")


@SIZES
def test_array_encode(compare: Compare, size: int) -> None:
    array = np.zeros(size, np.uint8)
    compare(loop(partial(encode, array), LOOPS), loop(partial(msgpack.packb, DESCRIPTION), LOOPS), "packb of a 3-tuple")


@SIZES
def test_array_decode(compare: Compare, size: int) -> None:
    header, buffers = encode(np.zeros(size, np.uint8))
    reference = partial(msgpack.unpackb, msgpack.packb(DESCRIPTION))
    compare(loop(lambda: decode(header, buffers), LOOPS), loop(reference, LOOPS), "unpackb of a 3-tuple")


def test_array_of_any_size(compare: Compare) -> None:
    """There and back: nothing of the codec's looks at the items."""

    def there_and_back(array: np.ndarray) -> object:
        return decode(*encode(array))

    small, large = np.zeros(1 << 10, np.uint8), np.zeros(32 << 20, np.uint8)
    compare(loop(lambda: there_and_back(large), LOOPS), loop(lambda: there_and_back(small), LOOPS), "the same of 1 KiB")
