"""Target 6: a thousand HEROs, two hundred channels."""

from __future__ import annotations

from typing import Any, Final

from .bench import Bench, Lab, NotMeasured, Target, median
from .row import Finding, Quantity, at_most, plain, ratio

__all__ = ["TARGETS"]

HEROS: Final = 1_000
CHANNELS: Final = 200
HOLDERS: Final = 4
"""Processes that hold the idle channels: each opens as many as that many clients would."""

NO_DEPENDENCE: Final = 1.15
""""The cost of a call does not depend on it": as near to 1 as a shared machine can tell."""


def how_many(bench: Bench) -> tuple[int, int]:
    """HEROs and channels."""
    return bench.few(HEROS, 50), bench.few(CHANNELS, 8)


def creation(bench: Bench) -> dict[str, Any]:
    """What ``Workbench.offer`` says of so many HEROs, the first of the process not among them."""
    with Lab() as lab:
        server = lab.start("server")
        server.ask("offer", prefix="first", count=1)
        found: dict[str, Any] = server.ask("offer", prefix="many", count=how_many(bench)[0])
        return found


def seconds(bench: Bench) -> Finding:
    found = bench.once(creation)["seconds"]
    return plain(median(found), "s", f"median of {len(found)}")


def memory(bench: Bench) -> Finding:
    found = bench.once(creation)
    count = len(found["seconds"])
    note = f"USS, {count} HEROs of ten members; RSS: {Quantity(found['rss'] / count, 'B')}"
    return plain(found["uss"] / count, "B", note)


def threads(bench: Bench) -> Finding:
    found = bench.once(creation)
    return plain(found["threads"], "", f"added by {len(found['seconds'])} HEROs")


def calls(bench: Bench) -> dict[str, float]:
    """p50 of a call to a process with one HERO and one channel, with many HEROs, and with many channels."""
    heroes, channels = how_many(bench)
    names = {"alone": "alone-0", "heros": f"heros-{heroes // 2}", "channels": "channels-0"}
    with Lab() as lab:
        servers = {prefix: lab.start(f"server, {prefix}") for prefix in names}
        holders = [lab.start(f"holder {number}") for number in range(HOLDERS)]
        client = lab.start("client")
        for prefix, server in servers.items():
            server.ask("offer", prefix=prefix, count=heroes if prefix == "heros" else 1)
        for holder in holders:
            holder.ask("hold_channels", name=names["channels"], count=channels // HOLDERS)
        client.ask("reach", names=list(names.values()))
        taken = client.ask("calls", names=list(names.values()), block=100, rounds=bench.few(30, 2))
        held = sum(holder.ask("held") for holder in holders)
        if held != channels // HOLDERS * HOLDERS:
            raise NotMeasured(f"of {channels} channels {held} are still open")
    return {prefix: median(taken[name]) / 1e9 for prefix, name in names.items()}


def many_heros(bench: Bench) -> Finding:
    found = bench.once(calls)
    return ratio(found["heros"], found["alone"], "a process with 1 HERO", note=f"{how_many(bench)[0]} HEROs")


def many_channels(bench: Bench) -> Finding:
    found = bench.once(calls)
    return ratio(found["channels"], found["alone"], "a process with 1 channel", note=f"{how_many(bench)[1]} channels")


TARGETS: Final = (
    Target("6.1", f"to create a HERO, at {HEROS:,}", at_most(1e-3, "s"), seconds),
    Target("6.2", "memory of a HERO", at_most(20 * 1024, "B"), memory),
    Target("6.3", "threads of further HEROs", at_most(0, ""), threads),
    Target("6.4", f"add(1, 2) of one of {HEROS:,} HEROs, p50", at_most(NO_DEPENDENCE), many_heros),
    Target("6.5", f"add(1, 2) beside {CHANNELS} idle channels, p50", at_most(NO_DEPENDENCE), many_channels),
)
