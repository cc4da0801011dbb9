"""Packing and unpacking one call, with msgpack alone and with arrays, in one process: loops in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgpack
import numpy as np

from heros.codec import decode, encode_arguments

__all__ = ["LARGE", "SMALL", "measure"]

SMALL: Final = 1 << 10
LARGE: Final = 32 << 20
"""Bytes of the arrays."""

CALL: Final[tuple[tuple[int, int], dict[str, int]]] = ((1, 2), {})
"""``add(1, 2)``, as arguments."""


def measure(loops: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step: the mean of one loop, for each of the rounds."""
    steps = _steps()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            taken[name].append(_loop(step, loops))
    return taken


def _steps() -> dict[str, Callable[[], object]]:
    steps: dict[str, Callable[[], object]] = {}
    packed = msgpack.packb(CALL)
    header, _ = encode_arguments(*CALL)
    steps["msgpack pack"], steps["msgpack unpack"] = partial(msgpack.packb, CALL), partial(msgpack.unpackb, packed)
    steps["pack"], steps["unpack"] = partial(encode_arguments, *CALL), partial(decode, header)
    # What an array adds is what a call with it takes beyond one with a number in its place.
    number, _ = encode_arguments((1,), {})
    steps["pack number"], steps["unpack number"] = partial(encode_arguments, (1,), {}), partial(decode, number)
    for name, nbytes in (("small", SMALL), ("large", LARGE)):
        array = np.ones(nbytes, np.uint8)
        header, buffers = encode_arguments((array,), {})
        steps[f"pack {name}"] = partial(encode_arguments, (array,), {})
        steps[f"unpack {name}"] = partial(decode, header, buffers)
    return steps


def _loop(step: Callable[[], object], loops: int) -> float:
    repeat, clock = range(loops), time.perf_counter
    start = clock()
    for _ in repeat:
        step()
    return (clock() - start) / loops
