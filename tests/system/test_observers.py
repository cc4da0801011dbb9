"""Observers and datasources: HEROs that come, deliver, and go, in other processes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator

import pytest

import heros
from heros import (
    DatasourceObserver,
    EventObserver,
    HEROObserver,
    LocalHERO,
    PolledLocalDatasourceHERO,
    event,
    limits,
    observe,
)
from heros.datasource import DatasourceReturnSet
from heros.demo.loopback import zenoh_config
from heros.exceptions import HEROUnavailable
from heros.node import current
from tests.harness import Child, wait_until

SOURCE = """
import asyncio, sys, threading, heros
class Source(heros.PolledLocalDatasourceHERO):
    _observables = {
        "temperature": {"target": "sensors", "index": 0, "raw_unit": "V", "unit": "degC", "conversion": "100*x - 50",
                        "boundaries": [[0, 20], [20, 40]]},
        "pressure": {"raw_unit": "mbar"},
        "broken": {"target": "no_such_member"},
    }
    pressure: float = 1013.25
    def sensors(self): return [0.75, 1.0]
class Ticker(heros.LocalHERO):
    number = 0
    @heros.event
    def tick(self):
        self.number += 1
        return self.number
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
source = Source("source", realm=sys.argv[1], loop=loop, interval=0.05)
ticker = Ticker("ticker", realm=sys.argv[1])
def ticking():
    while True:
        ticker.tick()
        threading.Event().wait(0.02)
threading.Thread(target=ticking, daemon=True).start()
print("READY", flush=True)
for line in sys.stdin:
    if line == "destroy\\n": source._destroy_hero()
"""


class Elsewhere:
    """How to start a process whose HEROs the observers of this one see, through the host or through the network."""

    def __init__(self, realm: str, env: dict[str, str]) -> None:
        self.realm = realm
        self.env = env

    def start(self) -> Child:
        return Child(SOURCE, self.realm, env=self.env)


@pytest.fixture(params=["shm", "net"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    monkeypatch.setenv("HEROS_TRANSPORT", request.param)
    if request.param == "shm":
        yield Elsewhere("realm", {})
        return
    realm = request.getfixturevalue("net_realm")
    config = zenoh_config(int(os.environ["HEROS_TEST_PORT"]), listen=False)
    with HEROObserver(realm):  # opens the listening side
        yield Elsewhere(realm, {"HEROS_ZENOH_CONFIG": config})


def test_a_hero_observer_follows_who_is_there(elsewhere):
    added: list[str] = []
    removed: list[str] = []
    with HEROObserver(elsewhere.realm) as observer:
        assert observer.known_objects == {}
        observer.register_object_added_callback(added.append)
        observer.register_object_removed_callback(removed.append)
        with elsewhere.start() as child:
            child.ready()
            wait_until(lambda: set(observer.known_objects) == {"source", "ticker"}, what=lambda: str(added))
            descriptor = observer.known_objects["ticker"]
            assert descriptor["class"] == "Ticker"
            assert "_proto_version:1.0" in descriptor["tags"]
            assert observer.get_object("ticker").number >= 0
            with HEROObserver(elsewhere.realm) as late:
                assert set(late.known_objects) == {"source", "ticker"}
            child.say("destroy")
            wait_until(lambda: removed == ["source"], what=lambda: str(removed))
            child.kill9()
            wait_until(lambda: sorted(removed) == ["source", "ticker"], what=lambda: str(removed))
            assert sorted(added) == ["source", "ticker"]
        assert observer.known_objects == {}
        with pytest.raises(AttributeError, match="ticker"):
            observer.get_object("ticker")


@pytest.mark.parametrize("transport", ["auto", "shm"])
def test_a_hero_that_goes_while_an_observer_is_made_is_not_kept(transport, monkeypatch):
    monkeypatch.setenv("HEROS_TRANSPORT", transport)
    for number in range(8):
        hero = LocalHERO(f"brief{number}", realm="here")
        with HEROObserver(realm="here") as observer:
            hero._destroy_hero()
            wait_until(lambda: not observer.known_objects, what=lambda: str(observer.known_objects))


class Meeting:
    """A callback at which two threads that compare another one with it meet, if nothing keeps them apart."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)

    def __call__(self, *_: object) -> None: ...

    def __eq__(self, other: object) -> bool:
        try:
            self.barrier.wait(0.2)
        except threading.BrokenBarrierError:
            pass
        return self is other

    __hash__ = object.__hash__


def test_what_two_threads_register_at_once_is_registered_once(monkeypatch):
    monkeypatch.setenv("HEROS_TRANSPORT", "shm")
    got: list[object] = []
    results: list[object] = []
    with EventObserver("*", "tick") as observer:
        observer.register_callback(Meeting())
        callback = got.append
        threads = [threading.Thread(target=lambda: results.append(observer.register_callback(callback))) for _ in "12"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results.count(False) == 1
        assert observer.remove_callback(callback)
        assert not observer.remove_callback(callback)


def test_an_event_observer_hears_all_and_those_that_come_later(elsewhere):
    got: list[tuple[str, int]] = []
    with EventObserver("*", "tick", realm=elsewhere.realm) as observer:
        uid = observer.register_callback(lambda name, value: got.append((name, value)))
        assert isinstance(uid, str)
        with elsewhere.start() as child:
            child.ready()
            wait_until(lambda: len(got) > 5, what="ticks of a HERO that came later")
            assert {name for name, _ in got} == {"ticker"}
            child.kill9()
        got.clear()
        with elsewhere.start() as child:
            child.ready()
            wait_until(lambda: len(got) > 5, what="ticks of its successor")
            assert observer.remove_callback_uid(uid)


def test_an_event_observer_hears_those_that_are_there_from_its_first_callback_on(elsewhere):
    with elsewhere.start() as child, HEROObserver(elsewhere.realm) as known:
        child.ready()
        wait_until(lambda: "ticker" in known.known_objects, what="the HERO")
        with EventObserver("*", "tick", realm=elsewhere.realm) as observer:
            observer.register_callback(print)
            assert set(observer.missed) == {"ticker"}


def test_an_event_observer_that_finds_a_stuck_hero_says_so_and_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(limits, "DISCOVERY_SECONDS", 0.05)
    with Child(SOURCE, "realm") as child:
        child.ready()
        child.stop()
        got: list[int] = []
        with EventObserver("*", "tick", realm="realm") as observer:
            observer.register_callback(lambda name, value: got.append(value))
            assert "EventObserver of tick" in caplog.text
            child.cont()
            wait_until(lambda: got, what="a tick")


def test_what_keeps_an_event_observer_from_a_hero_is_told_once(monkeypatch, caplog):
    class Ticker(LocalHERO):
        @event
        def tick(self, value: int) -> int:
            return value

    monkeypatch.setattr(observe, "RETRY_SECONDS", 0.001)
    caplog.set_level(logging.INFO, "heros.observe")
    node = current()
    reasons = iter(["no way"] * 5 + ["another way"] * 5)
    bind = node.bind

    def refuse(*args):
        if (reason := next(reasons, None)) is not None:
            raise HEROUnavailable(reason)
        return bind(*args)

    monkeypatch.setattr(node, "bind", refuse)
    with Ticker("ticker", realm="here"), EventObserver("*", "tick", realm="here") as observer:
        observer.register_callback(print)
        wait_until(lambda: "ticker" in observer.missed, what="the subscription")
    told = [record.getMessage() for record in caplog.records if "cannot be observed" in record.getMessage()]
    assert [text.rpartition(": ")[2] for text in told] == ["no way", "another way"]


@pytest.mark.parametrize(("selector", "heard"), [("ticker", True), ("tick*", True), ("tock*", False)])
def test_an_event_observer_selects_by_name(selector, heard):
    class Ticker(LocalHERO):
        @event
        def tick(self, value: int) -> int:
            return value

    got: list[tuple[str, int]] = []
    with Ticker("ticker", realm="here") as ticker, EventObserver(selector, "tick", realm="here") as observer:
        assert observer.register_callback(lambda name, value: got.append((name, value)))
        ticker.tick(1)
        wait_until(lambda: got or not heard, what="a tick")
        assert got == [("ticker", 1)] * heard


def test_callbacks_are_registered_once_and_removed_once():
    with EventObserver("*", "tick", realm="here") as observer:
        assert observer.register_callback(print)
        assert observer.register_callback(print) is False
        assert observer.remove_callback(print)
        assert observer.remove_callback(print) is False
        with pytest.raises(KeyError):
            observer.remove_callback_uid("no such uid")


def test_what_is_no_callback_is_refused():
    with EventObserver("*", "tick", realm="here") as events, HEROObserver(realm="here") as observer:
        registers = (
            events.register_callback,
            observer.register_object_added_callback,
            observer.register_object_removed_callback,
        )
        for register in registers:
            with pytest.raises(TypeError, match="callable"):
                register(3)


@pytest.mark.parametrize(
    ("selector", "name", "error"),
    [
        (None, "tick", TypeError),
        ("*", None, TypeError),
        ("a/b", "tick", ValueError),
        ("", "tick", ValueError),
        ("*", "a/b", ValueError),
    ],
)
def test_impossible_selections_are_refused(selector, name, error):
    with pytest.raises(error, match="name"):
        EventObserver(selector, name)


@pytest.mark.parametrize(("interval", "error"), [("1", TypeError), (0, ValueError), (float("nan"), ValueError)])
def test_impossible_intervals_are_refused(interval, error):
    loop = asyncio.new_event_loop()
    with pytest.raises(error, match="interval must be"):
        PolledLocalDatasourceHERO("polled", loop=loop, interval=interval)
    loop.close()


def test_a_datasource_delivers_converted_values(elsewhere):
    got: list[tuple[str, DatasourceReturnSet]] = []
    with DatasourceObserver("*", realm=elsewhere.realm) as observer:
        observer.register_observable_data_callback(lambda name, data: got.append((name, data)))
        with elsewhere.start() as child:
            child.ready()
            wait_until(lambda: len(got) > 2, what="values")
    name, data = got[0]
    assert name == "source"
    assert isinstance(data, DatasourceReturnSet)
    values = {value.id: value for value in data}
    assert set(values) == {"temperature", "pressure"}
    temperature = values["temperature"]
    assert (temperature.raw_value, temperature.raw_unit) == (0.75, "V")
    assert (temperature.value, temperature.unit, temperature.inbound) == (25.0, "degC", 1)
    assert (values["pressure"].value, values["pressure"].unit) == (1013.25, "mbar")


class Flaky(PolledLocalDatasourceHERO):
    calls: int = 0

    async def _observable_data(self) -> dict[str, float]:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("the sensor is warming up")
        return {"ready": float(self.calls)}


def test_polling_survives_an_exception_and_ends_with_the_hero(caplog):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    got: list[DatasourceReturnSet] = []
    with Flaky("flaky", loop=loop, interval=0.02) as source:
        source.observable_data.connect(got.append)
        wait_until(lambda: got, what="values after the exception")
    assert "warming up" in caplog.text
    wait_until(lambda: source._timer is None or source._timer.cancelled(), what="the end of the polling")
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize("conversion", ["__import__('os').system('true')", "x.real", "(lambda: x)()", "9**9**9" * 99])
def test_a_hostile_conversion_is_refused_at_construction(conversion):
    with pytest.raises(ValueError):  # noqa: PT011  # the texts are the expression's own tests
        heros.LocalDatasourceHERO("hostile", observables={"x": {"conversion": conversion}})
    with pytest.raises(NameError):
        heros.RemoteHERO("hostile")


def test_an_observer_that_is_a_hero_ends_as_both():
    """As BOSS makes of an archiver: a class that observes, offered as a HERO."""

    class Archiver(EventObserver, LocalHERO):
        def __init__(self) -> None:
            EventObserver.__init__(self, "*", "tick")
            LocalHERO.__init__(self, "archiver")
            self.register_callback(self.store)
            self.stored: list[object] = []

        def store(self, name: str, data: object) -> None:
            self.stored.append((name, data))

    class Ticking(LocalHERO):
        @event
        def tick(self, number: int) -> int:
            return number

    observer = HEROObserver()
    archiver, ticker = Archiver(), Ticking("ticker")
    wait_until(lambda: ticker.tick.publisher.wanted)
    ticker.tick(1)
    wait_until(lambda: archiver.stored == [("ticker", 1)])
    wait_until(lambda: "archiver" in observer.known_objects)
    archiver._destroy_hero()
    archiver._destroy_hero()
    wait_until(lambda: "archiver" not in observer.known_objects)
    wait_until(lambda: not ticker.tick.publisher.wanted)
    ticker._destroy_hero()
    observer._destroy_hero()
