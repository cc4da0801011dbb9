"""Target 4: events. Rates are the peers'; bandwidth, and what a further subscriber costs, are measured here."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.peers.cases import MIB, Case
from benchmarks.peers.process import Process
from heros.limits import EVENT_WINDOW_BYTES

from .bench import Bench, Lab, NotMeasured, Target, median
from .row import Finding, Limit, Quantity, at_least, at_most, plain, ratio

__all__ = ["TARGETS"]

OURS: Final = "heros-shm"
HERO: Final = "events-0"
SMALL: Final = 64

SUBSCRIBERS: Final = (1, 4, 16)
BURST, PAUSE = 8, 0.02
"""Samples that are published at once, and the seconds that the subscribers then have to take them."""

ON_THEIR_WAY: Final = EVENT_WINDOW_BYTES // MIB
"""Frames that may be on their way to one subscriber, each in memory of its own: the memcpy that they are compared with
has as many targets, as one that always writes to the same place stays in the processor's cache."""

RECORDS: Final = 2.0
"""What a further subscriber may cost, in what one costs that is sent 64 bytes: "at most one small record". The record
of a frame has a reference to it besides, and what is lent has to be taken back."""


def rate(number: str, what: str, case: Case, limit: Limit) -> Target:
    def find(bench: Bench) -> Finding:
        found = bench.figure(OURS, case)
        if not found.rate:
            raise NotMeasured(f"{OURS}, {case.key}: no rate")
        return plain(found.rate, "1/s", f"{found.lost / max(1, found.published):.1%} lost")

    return Target(number, what, limit, find, ((OURS, case),))


def publisher_and_subscribers(lab: Lab, count: int) -> tuple[Process, list[Process]]:
    """A publisher, and subscribers that are not subscribed yet."""
    publisher = lab.start("publisher")
    subscribers = [lab.start(f"subscriber {number}") for number in range(count)]
    publisher.ask("offer", prefix="events", count=1)
    for subscriber in subscribers:  # all at once
        subscriber.send("reach", names=[HERO])
    for subscriber in subscribers:
        subscriber.answer()
    return publisher, subscribers


def knock(publisher: Process, subscribers: list[Process]) -> None:
    """Publish until each of them has received something: a subscription takes a while to reach the publisher."""
    silent = list(subscribers)
    for _ in range(50):
        publisher.ask("publish", name=HERO, nbytes=SMALL, seconds=1.0, limit=1)
        silent = [each for each in silent if not each.ask("count", expected=1, quiet=0.1)["received"]]
        if not silent:
            break
    else:
        raise NotMeasured(f"{len(silent)} of {len(subscribers)} subscribers receive nothing")
    for subscriber in subscribers:  # late knocks
        subscriber.ask("count", expected=1_000_000, quiet=0.02)


def bandwidth(bench: Bench) -> Finding:
    rates: list[float] = []
    copies: list[float] = []
    cached: list[float] = []
    lost = published = 0
    repeat = bench.few(5 * ON_THEIR_WAY, ON_THEIR_WAY)
    with Lab() as lab:
        publisher, subscribers = publisher_and_subscribers(lab, 1)
        subscribers[0].ask("subscribe", name=HERO)
        knock(publisher, subscribers)
        for number in range(-1, bench.few(5, 1)):
            count = publisher.ask("publish", name=HERO, nbytes=MIB, seconds=bench.few(3, 1) * 0.1, limit=50_000)
            told = subscribers[0].ask("count", expected=count, quiet=0.4)
            copied = publisher.ask("memcpy", nbytes=MIB, repeat=repeat, targets=ON_THEIR_WAY)
            if number < 0:  # the memory of the samples is touched for the first time
                continue
            if told["wrong"] or told["received"] < 2:
                raise NotMeasured(f"of {count} samples {told['received']} were received, {told['wrong']} wrong")
            rates.append((told["received"] - 1) / (told["nanoseconds"] / 1e9))
            copies += copied
            cached += publisher.ask("memcpy", nbytes=MIB, repeat=repeat)
            lost, published = lost + count - told["received"], published + count
    return ratio(
        median(rates) * MIB,
        MIB / median(copies),
        f"memcpy of the array to {ON_THEIR_WAY} places in turn; to one, in the cache: "
        f"{Quantity(MIB / median(cached), 'B/s')}",
        unit="B/s",
        note=f"{lost / published:.1%} lost",
    )


Publishing = dict[int, dict[int, float]]


def publishing(bench: Bench) -> tuple[Publishing, float]:
    """By size and number of subscribers: seconds of the publisher's thread for one sample. And those of a memcpy."""
    taken: dict[int, dict[int, list[float]]] = {nbytes: {} for nbytes in (SMALL, MIB)}
    copies: list[float] = []
    bursts = bench.few(25, 2)
    with Lab() as lab:
        publisher, subscribers = publisher_and_subscribers(lab, max(SUBSCRIBERS))
        subscribed: list[Process] = []
        for count in SUBSCRIBERS:
            for subscriber in subscribers[len(subscribed) : count]:
                subscriber.ask("subscribe", name=HERO)
                subscribed.append(subscriber)
            knock(publisher, subscribed)
            for nbytes, by_count in taken.items():
                bursting: dict[str, Any] = {"name": HERO, "nbytes": nbytes, "burst": BURST, "pause": PAUSE}
                publisher.ask("publish_bursts", bursts=2, **bursting)
                for subscriber in subscribed:
                    subscriber.ask("count", expected=2 * BURST, quiet=1.0)
                by_count[count] = publisher.ask("publish_bursts", bursts=bursts, **bursting)
                for subscriber in subscribed:
                    told = subscriber.ask("count", expected=bursts * BURST, quiet=1.0)
                    if told["wrong"] or told["received"] != bursts * BURST:
                        raise NotMeasured(f"a subscriber has received {told['received']} of {bursts * BURST} samples")
            copies += publisher.ask("memcpy", nbytes=MIB, repeat=50)
    medians = {nbytes: {count: median(each) for count, each in counts.items()} for nbytes, counts in taken.items()}
    return medians, median(copies)


def further(by_count: dict[int, float]) -> float:
    """Seconds a further subscriber: between the fewest and the most."""
    return (by_count[max(SUBSCRIBERS)] - by_count[min(SUBSCRIBERS)]) / (max(SUBSCRIBERS) - min(SUBSCRIBERS))


def told(by_count: dict[int, float]) -> str:
    return "a sample to " + ", ".join(f"{count}: {seconds * 1e6:.0f} us" for count, seconds in by_count.items())


def further_record(bench: Bench) -> Finding:
    found, _ = bench.once(publishing)
    return ratio(further(found[MIB]), further(found[SMALL]), "a further subscriber of 64 B", note=told(found[MIB]))


def further_pass(bench: Bench) -> Finding:
    found, copy = bench.once(publishing)
    return ratio(further(found[MIB]), copy, "memcpy of the frame", note=told(found[MIB]))


TARGETS: Final = (
    rate("4.1", "events of 64 B to one subscriber", Case("events", SMALL), at_least(200e3, "1/s", goal=300e3)),
    rate("4.2", "events of 1 MiB from a pool", Case("events", MIB, "pooled"), at_least(50e3, "1/s")),
    Target("4.3", "events of 1 MiB, ordinary: bandwidth", at_least(0.8), bandwidth),
    Target("4.4", "a further subscriber, 1 MiB: publisher's seconds a sample", at_most(RECORDS), further_record),
    Target("4.5", "a further subscriber, 1 MiB: no pass over the frame", at_most(0.5), further_pass),
)
