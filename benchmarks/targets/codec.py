"""Target 9: the codec, against msgpack."""

from __future__ import annotations

from typing import Final

from .bench import Bench, Lab, Target, median
from .row import Finding, Quantity, at_most, ratio

__all__ = ["TARGETS"]

Steps = dict[str, float]


def steps(bench: Bench) -> Steps:
    """Seconds of each step, the median of the rounds."""
    with Lab() as lab:
        taken = lab.start("codec").ask("codec", loops=bench.few(1000, 100), rounds=bench.few(21, 3))
    return {name: median(each) for name, each in taken.items()}


def small_call(bench: Bench) -> Finding:
    found = bench.once(steps)
    return ratio(
        found["pack"] + found["unpack"],
        found["msgpack pack"] + found["msgpack unpack"],
        "msgpack.packb and unpackb of the same tuple",
    )


def added(step: str, size: str) -> Target:
    """What an array adds to one step of a call."""
    number, what = _NUMBERS[step, size], "1 KiB" if size == "small" else "32 MiB"

    def find(bench: Bench) -> Finding:
        found = bench.once(steps)
        with_array, without = found[f"{step} {size}"], found[f"{step} number"]
        return Finding(
            Quantity(with_array - without, "s"),
            Quantity(with_array, "s"),
            Quantity(without, "s"),
            "the same with a number in its place",
        )

    return Target(number, f"{step}ing an array of {what}: what it adds", at_most(3e-6, "s"), find)


_NUMBERS: Final = {
    ("pack", "small"): "9.2",
    ("pack", "large"): "9.3",
    ("unpack", "small"): "9.4",
    ("unpack", "large"): "9.5",
}

TARGETS: Final = (
    Target("9.1", "packing and unpacking add(1, 2)", at_most(2.0), small_call),
    *(added(step, size) for step, size in _NUMBERS),
)
