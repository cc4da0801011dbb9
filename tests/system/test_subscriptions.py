"""Subscriptions between processes when one of the two sides stops, is stuck, or ends."""

from __future__ import annotations

import gc
import logging
import re
import threading
import time

import pytest

import heros
from heros import EventObserver, LocalHERO, RemoteHERO, event, limits
from heros.event import reliable
from heros.node import current
from tests.harness import Child, wait_until


class Source(LocalHERO):
    @event
    def tick(self, value):
        return value

    @reliable
    @event
    def surely(self, value):
        return value

    @event(keep=1)
    def state(self, value):
        return value


SERVER = """
import sys, threading
from heros import LocalHERO, event
from heros.event import reliable

class Source(LocalHERO):
    def put(self, thing):
        self.thing = thing

    def send(self):
        self.tick(self.thing)

    @event
    def tick(self, value):
        return value

    @reliable
    @event
    def surely(self, value):
        return value

source = Source("source")
print("READY", flush=True)
sys.stdin.readline()
threading.Thread(target=lambda: [source.surely(n) for n in range(5000)], daemon=True).start()
sys.stdin.readline()
print("EXITING", flush=True)
"""

SUBSCRIBER = """
import sys
from heros import RemoteHERO
source, got = RemoteHERO("source"), []
source.tick.connect(got.append)
print("READY", flush=True)
for line in sys.stdin:
    print("GOT", got[-1] if got else None, flush=True)
"""


class Thing:
    """Has no serialised form."""


@pytest.fixture
def stuck():
    """A callback that does not return before the test ends."""
    go, entered = threading.Event(), threading.Event()

    def callback(value: object) -> None:
        entered.set()
        go.wait(60)

    callback.entered = entered
    yield callback
    go.set()


def test_a_program_ends_although_a_reliable_publisher_waits(stuck):
    with Child(SERVER) as child:
        child.ready()
        RemoteHERO("source").surely.connect(stuck)
        child.say("publish")
        assert stuck.entered.wait(10)
        child.say("exit")
        child.expect("EXITING")
        assert child.wait(limits.RELIABLE_SECONDS / 2) == 0


@pytest.mark.parametrize("transport", ["auto", "shm"])
def test_who_disconnects_lets_a_reliable_publisher_go_on(transport, stuck, monkeypatch):
    monkeypatch.setenv("HEROS_TRANSPORT", transport)
    with Source("source") as source:
        proxy = RemoteHERO("source")
        proxy.surely.connect(stuck)
        thread = threading.Thread(target=lambda: [source.surely(n) for n in range(3 * limits.EVENT_WINDOW)])
        thread.start()
        wait_until(lambda: any(each._waiting for each in source.surely.publisher._subscribers), what="the wait")
        proxy.surely.disconnect(stuck)
        thread.join(limits.RELIABLE_SECONDS / 2)
        assert not thread.is_alive()
        assert not proxy._binding.bound.channel.closed


def test_an_undecodable_sample_does_not_stop_the_next():
    with Child(SERVER) as child:
        child.ready()
        proxy = RemoteHERO("source")
        got: list[object] = []
        proxy.tick.connect(got.append)
        thing = Thing()
        proxy.put(thing)
        del thing
        gc.collect()
        proxy.send()
        proxy.put(5)
        proxy.send()
        wait_until(lambda: got == [5], what=lambda: f"the sample; there is {got}")


def test_a_subscriber_that_was_stopped_when_the_hero_ended_finds_its_successor():
    first = Source("source")
    with Child(SUBSCRIBER) as child:
        child.ready()
        child.stop()
        (subscriber,) = first.tick.publisher._subscribers
        end = time.monotonic() + 20
        while not subscriber.dropped:  # its ring and its window are full now
            first.tick("x" * 600)
            assert time.monotonic() < end
        first._destroy_hero()
        with Source("source") as second:
            child.cont()
            wait_until(lambda: second.tick.publisher.wanted, 20.0, "the subscription at the successor")
            second.tick("anew")

            def came() -> bool:
                child.say("?")
                return child.expect("GOT") == "anew"

            wait_until(came, what="the successor's sample")


RESTARTED = """
import sys
from heros import LocalHERO, event
from heros.event import reliable

class Source(LocalHERO):
    def fire(self):
        for number in range(5):
            self.tick(number)
            self.surely(number)

    @event
    def tick(self, value):
        return value

    @reliable
    @event
    def surely(self, value):
        return value

source = Source("source")
if sys.argv[1:]:
    source.fire()
print("READY", flush=True)
sys.stdin.readline()
"""


def test_a_call_that_reaches_a_restarted_hero_takes_the_subscriptions_along(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "heros.binding")
    monkeypatch.setattr("heros.subscription.RETRY_SECONDS", (1000.0, 1000.0))
    got: list[int] = []
    surely: list[int] = []
    with Child(RESTARTED) as child:
        child.ready()
        source = RemoteHERO("source")
        source.tick.connect(got.append)
        source.surely.connect(surely.append)
        child.kill9()
    wait_until(lambda: not (source.tick._subscription.attached or source.surely._subscription.attached))
    with Child(RESTARTED) as child:
        child.ready()
        source.fire()
        wait_until(lambda: got == surely == [0, 1, 2, 3, 4], what=lambda: f"{got} {surely}")
        assert (source.tick.missed, source.surely.missed) == (0, 0)
        assert re.search(rf"s after it was lost, with its successor in process {child.pid} on .* by shm", caplog.text)


def test_what_a_restarted_hero_published_before_it_was_found_is_missed(caplog):
    caplog.set_level(logging.INFO, "heros.event")
    with Child(RESTARTED) as child:
        child.ready()
        source = RemoteHERO("source")
        source.tick.connect(print)
        observer = EventObserver("*", "tick")
        observer.register_callback(lambda name, value: None)
        child.kill9()
    with Child(RESTARTED, "fire") as child, observer:
        child.ready()
        wait_until(lambda: source.tick.missed == 5, what=lambda: str(source.tick.missed))
        wait_until(lambda: observer.missed == {"source": 5}, what=lambda: str(observer.missed))
        wait_until(lambda: len(re.findall(r"is back after .* s; 5 samples were missed", caplog.text)) == 2)


def test_a_kept_value_comes_once_when_the_way_was_lost(monkeypatch):
    monkeypatch.setenv("HEROS_TRANSPORT", "shm")
    with Source("source") as source:
        source.state(1)
        proxy = heros.RemoteHERO("source")
        got: list[int] = []
        proxy.state.connect(got.append)
        wait_until(lambda: got == [1], what="the kept value")
        (link,) = current().dispatcher._subscribers
        link.close("the test cuts it")
        wait_until(
            lambda: any(each.link is not link for each in source.state.publisher._subscribers), what="its return"
        )
        source.state(2)
        wait_until(lambda: 2 in got, what="the next value")
        assert got == [1, 2]
        assert proxy.state.missed == 0
