"""Proxies and observers of this package with HEROs of the original one, in processes that run the latter.

See ``original_lab`` for those HEROs.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import heros
from heros import DatasourceObserver, EventObserver, HEROObserver, LocalHERO, RemoteHERO, limits
from heros.demo.loopback import zenoh_config
from heros.entry import Entry
from heros.exceptions import (
    CallTimeout,
    EncodeError,
    HEROUnavailable,
    NameInUse,
    PeerLost,
    RemoteHEROError,
)
from heros.net.legacy import cbor, following
from heros.net.legacy.entry import LegacyEntry
from heros.node import current
from heros.references import UnserializableRemoteObject
from tests.harness import ORIGINAL, ROOT, Child, wait_until

LAB = ROOT / "tests" / "system" / "original_lab.py"

pytestmark = pytest.mark.skipif(not ORIGINAL.exists(), reason="`make test` makes .venv-original")

WAIT = 60.0
"""Seconds for a HERO to appear: its program imports and connects first, perhaps on a busy machine."""


class Originals:
    """How to start programs of the original package in one realm."""

    def __init__(self, realm: str, port: int) -> None:
        self.realm = realm
        self.port = port
        self.children: list[Child] = []

    def start(self, *names: str, wait: bool = True, **settings: Any) -> Child:
        config = {**json.loads(zenoh_config(self.port, listen=False)), **settings}
        environment = {"HEROS_ZENOH_CONFIG": json.dumps(config)}
        child = Child(LAB, self.realm, *names, env=environment, interpreter=ORIGINAL)
        self.children.append(child)
        if wait:
            child.ready(WAIT)
        return child

    def hero(self, name: str, **options: Any) -> RemoteHERO:
        return RemoteHERO(name, self.realm, wait=WAIT, **options)

    def close(self) -> None:
        for child in self.children:
            child.close()


@pytest.fixture
def original(net_realm: str) -> Iterator[Originals]:
    laboratory = Originals(net_realm, int(os.environ["HEROS_TEST_PORT"]))
    yield laboratory
    laboratory.close()


@pytest.fixture
def hero(original: Originals) -> RemoteHERO:
    original.start("old")
    return original.hero("old")


def do(child: Child, line: str) -> None:
    child.say(line)
    child.expect("DONE", WAIT)


# -- finding --------------------------------------------------------------------------------------------------


def test_it_is_found_by_its_name_and_reached_over_the_network(hero: RemoteHERO) -> None:
    assert heros.transport_of(hero) == "net"
    assert repr(hero).startswith("<RemoteHERO 'old' (Instrument)")


def test_a_name_that_nobody_has_is_not_found_beside_it(hero: RemoteHERO) -> None:
    with pytest.raises(HEROUnavailable, match="nobody"):
        RemoteHERO("nobody", hero._realm)


def test_its_metadata(hero: RemoteHERO) -> None:
    assert hero._hero_implements == {"tests.Instrument"}
    assert hero._hero_tags >= {"camera", "from-class", "_proto_version:1.0"}
    assert hero._hero_extra_metadata["a"] == "b"
    assert json.loads(hero._hero_extra_metadata["pkg_versions"])["heros"] == "2026.2.2"


def test_a_name_of_one_is_in_use(hero: RemoteHERO) -> None:
    with pytest.raises(NameInUse, match="old"):
        LocalHERO("old", realm=hero._realm, exclusive=True)


def test_an_observer_sees_it_come_and_go_once(original: Originals) -> None:
    child = original.start("early")
    news: list[tuple[str, str]] = []
    original.hero("early")  # by now they have met
    observer = HEROObserver(original.realm)
    observer.register_object_added_callback(lambda name: news.append(("added", name)))
    observer.register_object_removed_callback(lambda name: news.append(("removed", name)))
    with observer, LocalHERO("ours", realm=original.realm):
        wait_until(lambda: set(observer.known_objects) == {"early", "ours"}, WAIT)
        assert observer.known_objects["early"]["class"] == "Instrument"
        assert observer.known_objects["early"]["implements"] == {"tests.Instrument"}
        do(child, "create late")
        wait_until(lambda: "late" in observer.known_objects, WAIT)
        assert observer.get_object("late").add(1) == 3
        do(child, "destroy late")
        wait_until(lambda: "late" not in observer.known_objects, WAIT)
        child.kill9()
        wait_until(lambda: set(observer.known_objects) == {"ours"}, WAIT)
        assert [item for item in news if item[1] != "ours"] == [
            ("added", "late"),
            ("removed", "late"),
            ("removed", "early"),
        ]
        assert news.count(("added", "ours")) == 1


def test_watching_tells_of_it_without_listing(original: Originals) -> None:
    child = original.start("early")
    original.hero("early")
    news: list[str] = []
    network = current().network(original.realm)
    network.watch(lambda entry: news.append(f"+{entry.name}"), lambda entry: news.append(f"-{entry.name}"))
    wait_until(lambda: news == ["+early"], WAIT, lambda: f"{news}")
    later: list[str] = []
    network.watch(lambda entry: later.append(f"+{entry.name}"), lambda entry: later.append(f"-{entry.name}"))
    wait_until(lambda: later == ["+early"], WAIT)
    do(child, "create late")
    wait_until(lambda: news[1:] == ["+late"], WAIT, lambda: f"{news}")
    do(child, "destroy late")
    do(child, "create late")
    wait_until(lambda: news[2:] == ["-late", "+late"], WAIT, lambda: f"{news}")
    child.kill9()
    wait_until(lambda: sorted(news[4:]) == ["-early", "-late"], WAIT, lambda: f"{news}")
    assert later == news


def test_each_hero_is_seen_once_of_whichever_kind_it_is(original: Originals, runtime_directory: Path) -> None:
    program = f"""
import sys, heros
with heros.LocalHERO("ours-elsewhere", realm={original.realm!r}):
    print("READY", flush=True)
    sys.stdin.read()
"""
    config = zenoh_config(original.port, listen=False)
    elsewhere = {"HEROS_ZENOH_CONFIG": config, "HEROS_RUNTIME_DIR": f"{runtime_directory}-2"}  # as on another computer
    original.start("old")
    seen: list[Entry] = []
    with LocalHERO("ours", realm=original.realm), Child(program, env=elsewhere) as child:
        network = current().network(original.realm)
        network.watch(seen.append, seen.remove)
        original.hero("old")
        child.ready(WAIT)
        RemoteHERO("ours-elsewhere", original.realm, wait=WAIT)
        wait_until(lambda: len(seen) == 3, WAIT, lambda: f"{seen}")
        for entries in (network.entries(WAIT), seen):
            assert sorted(entry.name for entry in entries) == ["old", "ours", "ours-elsewhere"]
            assert [entry.name for entry in entries if isinstance(entry, LegacyEntry)] == ["old"]


def test_one_that_has_the_name_of_ours_is_seen_when_ours_is_gone(original: Originals) -> None:
    original.start("twice")
    original.hero("twice")
    ours = LocalHERO("twice", realm=original.realm)
    gone: list[str] = []
    with HEROObserver(original.realm) as observer:
        assert list(observer.known_objects) == ["twice"]
        observer.register_object_removed_callback(gone.append)
        others = current().network(original.realm)._discovery._others
        wait_until(lambda: "twice" in others._tokens and not others._new and not others._waiting, WAIT)
        assert others.entries() == []  # it was not asked who it is, as the name is known
        ours._destroy_hero()
        wait_until(lambda: observer.known_objects["twice"]["class"] == "Instrument", WAIT)
        wait_until(lambda: [entry.name for entry in others.entries()] == ["twice"], WAIT)
        assert gone == []


def test_without_cbor2_it_is_said_what_to_install(
    original: Originals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original.start("old")
    monkeypatch.setitem(sys.modules, "cbor2", None)
    monkeypatch.setattr(following, "_told", set())
    cbor._library.cache_clear()
    with HEROObserver(original.realm) as observer:
        wait_until(lambda: "old" in observer.known_objects, WAIT)
        with pytest.raises(HEROUnavailable, match=r'pip install "heros\[legacy\]"'):
            RemoteHERO("old", original.realm)
    assert 'pip install "heros[legacy]"' in caplog.text


def test_cbor2_is_not_imported_where_there_is_no_such_hero(net_realm: str) -> None:
    program = f"""
import sys, heros
with heros.LocalHERO("ours", realm={net_realm!r}), heros.HEROObserver({net_realm!r}):
    try: heros.RemoteHERO("nobody", {net_realm!r})
    except NameError: pass
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("cbor2", "_cbor2")))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# -- calls ----------------------------------------------------------------------------------------------------


def test_methods_with_their_signature(hero: RemoteHERO) -> None:
    assert str(inspect.signature(hero.add)) == "(a: 'int', b: 'int' = 2, *, c: 'int' = 0) -> 'int'"
    assert hero.add(1) == 3
    assert hero.add(1, 5, c=10) == 16
    with pytest.raises(AttributeError, match="no_such_method"):
        hero.no_such_method()


def test_values_come_back_as_they_went(hero: RemoteHERO) -> None:
    nested = {"a": {"b": [1, [2, "three"]]}, 7: None}
    for value in (
        None,
        True,
        -(2**63),
        2**80,
        1.5,
        "text",
        b"\0\xff",
        nested,
        {1, 2},
        1 + 2j,
        Decimal("1.25"),
        UUID(int=5),
    ):
        result = hero.echo(value)
        assert result == value
        assert type(result) is type(value)


def test_tuples_arrive_as_lists(hero: RemoteHERO) -> None:
    assert hero.echo((1, (2, 3))) == [1, [2, 3]]


def test_what_has_no_form_is_refused_before_it_is_sent(hero: RemoteHERO) -> None:
    with pytest.raises(EncodeError, match="timedelta"):
        hero.echo(timedelta(1))
    assert hero.add(1) == 3


def test_attributes_are_read_and_written(hero: RemoteHERO) -> None:
    assert hero.exposure == 0.01
    hero.exposure = 0.5
    assert hero.exposure == 0.5
    hero.partner = None
    assert hero.partner is None


def test_a_setters_exception_arrives(hero: RemoteHERO) -> None:
    with pytest.raises(ValueError, match=r"gain 3.0 is out of range") as caught:
        hero.gain = 3.0
    assert isinstance(caught.value, RemoteHEROError)
    assert hero.gain == 2.0


def test_exceptions_are_remote_and_builtin(hero: RemoteHERO) -> None:
    with pytest.raises(ValueError, match="on purpose") as caught:
        hero.raise_it("ValueError")
    error = caught.value
    assert isinstance(error, RemoteHEROError)
    assert (error.message, error.remote_type, error.remote_module) == ("on purpose", "ValueError", "builtins")
    assert "raise_it" in error.remote_traceback
    assert error.endpoint == f"{hero._realm}/old/raise_it"
    with pytest.raises(RemoteHEROError, match="own one") as caught_own:
        hero.raise_it("Own", "own one")
    assert caught_own.value.remote_type == "Own"
    with pytest.raises(TypeError):
        hero.add(1, no_such=2)


def test_arrays_go_both_ways(hero: RemoteHERO) -> None:
    image = hero.image(1000)
    assert image.dtype == np.uint8
    assert (image == np.arange(1000) % 251).all()
    assert hero.total(np.ones((30, 40))) == 1200
    for array in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros((0, 3), ">i4")):
        back = hero.echo(array)
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert (back == array).all()


def test_an_array_of_32_mebibytes(hero: RemoteHERO) -> None:
    nbytes = 32 << 20
    image = hero.image(nbytes)
    assert image.nbytes == nbytes
    assert int(image.sum(dtype=np.int64)) == hero.total(image)


def test_oneway_is_carried_out_and_failures_are_logged(hero: RemoteHERO, caplog: pytest.LogCaptureFixture) -> None:
    hero.take.oneway("sent")
    wait_until(lambda: hero.taken() == ["sent"], WAIT)
    hero.raise_it.oneway("ValueError", "of a oneway call")
    wait_until(lambda: "of a oneway call" in caplog.text, WAIT)


def test_many_callers_at_once(hero: RemoteHERO) -> None:
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: hero.add(n, b=1000), range(400)))
    assert results == [n + 1000 for n in range(400)]


def test_a_slow_method_holds_up_no_other(hero: RemoteHERO) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hero.wait)
        assert hero.wait_until_busy() is True
        assert hero.add(1) == 3
        assert not waiting.done()
        hero.let_go()
        assert waiting.result(WAIT) == "waited"


def test_a_call_has_no_deadline_of_zenohs(original: Originals, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"queries_default_timeout": 300}
    config = {**json.loads(os.environ["HEROS_ZENOH_CONFIG"]), **short}
    monkeypatch.setenv("HEROS_ZENOH_CONFIG", json.dumps(config))
    original.start("old", **short)
    assert original.hero("old").sleep(1.5) == 1.5


def test_a_call_has_the_deadline_it_is_given(hero: RemoteHERO) -> None:
    with pytest.raises(CallTimeout, match="old/wait"):
        hero.wait.options(timeout=0.2)()
    hero.let_go()
    assert hero.add(1) == 3


# -- references -----------------------------------------------------------------------------------------------


def test_heros_as_results_attributes_and_arguments(original: Originals) -> None:
    original.start("one", "two")
    one, two = original.hero("one"), original.hero("two")
    assert one.myself() == one
    one.set_partner(two)
    assert isinstance(one.partner, RemoteHERO)
    assert one.partner == two
    assert one.partner.add(4) == 6
    assert one.use(two, two.add) == ["through an argument", 3]


def test_methods_and_events_are_references(original: Originals) -> None:
    original.start("one", "two")
    one, two = original.hero("one"), original.hero("two")
    assert one.echo(two.add) == two.add
    assert one.echo(two.add)(1) == 3
    event = one.echo(two.tick)
    assert (event.instance, event.__name__) == (two, "tick")
    assert one.kind_of(two.tick) == "RemoteEventHandler"


def test_what_cannot_be_serialised_stays_with_its_owner(hero: RemoteHERO) -> None:
    thing = hero.opaque()
    assert isinstance(thing, UnserializableRemoteObject)
    assert (thing.type, thing.representation) == ("__main__.Opaque", "opaque one")
    assert hero.label_of(thing) == "one"
    assert hero.handle == thing


def test_an_object_of_ours_comes_back_as_itself(hero: RemoteHERO) -> None:
    class Opaque:
        pass

    thing = Opaque()
    assert hero.kind_of(thing) == "UnserializableRemoteObject"
    assert hero.echo(thing) is thing


# -- events ---------------------------------------------------------------------------------------------------


def test_what_is_published_once_connect_has_returned_arrives(original: Originals) -> None:
    child = original.start("old")
    hero = original.hero("old")
    got: list[Any] = []
    for rounds in range(1, 31):
        hero.tick.connect(got.append)
        do(child, "fire old")  # by no way on which it would come behind the subscription
        wait_until(lambda rounds=rounds: len(got) == rounds, WAIT, lambda: f"{got}")
        hero.tick.disconnect(got.append)


def test_a_callback_gets_every_value(hero: RemoteHERO) -> None:
    for _ in range(5):
        got: list[int] = []
        hero.tick.connect(got.append)
        hero.fire(100)
        wait_until(lambda got=got: len(got) == 100, WAIT, lambda got=got: f"{got}")
        assert got == list(range(100))
        assert hero.tick.missed == 0
        assert hero.tick.disconnect(got.append) is True
        hero.fire(1)
    assert hero.tick.is_callback(got.append) is False
    assert len(got) == 100


def test_values_of_events_are_as_those_of_calls(original: Originals) -> None:
    original.start("one", "two")
    one, two = original.hero("one"), original.hero("two")
    got: list[Any] = []
    one.tick.connect(got.append)
    one.fire_value({"array": np.arange(3), "hero": two, "method": two.add})
    (value,) = wait_until(lambda: got, WAIT)
    assert value["array"].tolist() == [0, 1, 2]
    assert value["hero"] == two
    assert value["method"](1) == 3


def test_a_slow_callback_misses_samples_and_knows_how_many(hero: RemoteHERO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENT_WINDOW_BYTES", 1 << 20)
    got: list[int] = []
    go = threading.Event()

    def slow(value: int) -> None:
        go.wait(WAIT)
        got.append(value)

    hero.tick.connect(slow)
    hero.fire(3000)
    probe: list[int] = []
    other = RemoteHERO("old", hero._realm)
    other.tick.connect(probe.append)
    hero.fire_value(3000)
    wait_until(lambda: 3000 in probe, WAIT)  # all before it have arrived, and have been dropped or not
    assert hero.add(1) == 3
    go.set()
    wait_until(lambda: len(got) + hero.tick.missed == 3001, WAIT, lambda: f"{len(got)} + {hero.tick.missed}")
    assert 1000 < len(got) < 3001
    assert got == sorted(got)


def test_a_burst_waits_for_a_slow_callback(hero: RemoteHERO) -> None:
    got: list[int] = []
    go = threading.Event()
    hero.tick.connect(lambda value: (go.wait(WAIT), got.append(value)))
    hero.fire(3000)
    go.set()
    wait_until(lambda: len(got) == 3000, WAIT, lambda: f"{len(got)}")
    assert got == list(range(3000))
    assert hero.tick.missed == 0


def test_large_samples(hero: RemoteHERO) -> None:
    got: list[Any] = []
    hero.tick.connect(got.append)
    hero.fire_images(4, 8 << 20)
    wait_until(lambda: len(got) + hero.tick.missed == 4, WAIT)
    assert all((image == image[0]).all() and image.nbytes == 8 << 20 for image in got)


def test_an_event_observer_follows_it(original: Originals) -> None:
    child = original.start("one")
    original.hero("one")
    got: list[tuple[str, int]] = []
    with EventObserver("*", "tick", original.realm) as observer:
        observer.register_callback(lambda name, value: got.append((name, value)))
        original.hero("one").fire(2)
        wait_until(lambda: len(got) == 2, WAIT)
        do(child, "create two")
        two = original.hero("two")
        wait_until(lambda: two.fire(1) is None and any(name == "two" for name, _ in got), WAIT)
    assert got[:2] == [("one", 0), ("one", 1)]


def test_a_datasource_observer_gets_its_values(original: Originals) -> None:
    original.start("source:lab")
    source = original.hero("lab")
    got: list[Any] = []
    with DatasourceObserver("*", original.realm) as observer:
        observer.register_observable_data_callback(lambda name, data: got.append((name, data)))
        source.measure(0.75)
        ((name, data),) = wait_until(lambda: got, WAIT)
    (value,) = data
    assert name == "lab"
    assert (value.id, value.raw_value, value.raw_unit) == ("temperature", 0.75, "V")
    assert (value.value, value.unit) == (25.0, "degC")


# -- callbacks that are methods of HEROs ----------------------------------------------------------------------


def test_a_method_of_an_old_hero_at_an_event_of_another(original: Originals) -> None:
    original.start("one", "two")
    one, two = original.hero("one"), original.hero("two")
    assert one.tick.connect(two.take, "why") == "two.take"
    (described,) = one.tick.get_callbacks()
    assert described["func"] == two.take
    assert (described["name"], described["origin"], described["context"]) == ("two.take", "why", "LocalHERO")
    assert described["is_remote_hero"] is True
    one.fire(3)
    assert two.taken() == [0, 1, 2]
    assert one.tick.disconnect(two.take) is True
    assert one.tick.disconnect(two.take) is False
    one.fire(1)
    assert two.taken() == [0, 1, 2]


def test_a_method_of_an_old_hero_at_an_event_of_ours(original: Originals) -> None:
    original.start("old")
    old = original.hero("old")
    with Ours("ours", realm=original.realm) as ours:
        assert ours.tick.connect(old.take) == "old.take"
        for number in range(3):
            ours.tick({"number": number, "image": np.full(10, number)})
        wait_until(lambda: len(old.taken()) == 3, WAIT)
        assert [value["number"] for value in old.taken()] == [0, 1, 2]
        assert ours.tick.disconnect(old.take) is True


class Ours(LocalHERO):
    """One of ours, which old programs can find when it is made: the network is told of it in the background."""

    def __init__(self, name: str, realm: str) -> None:
        self.received: list[Any] = []
        super().__init__(name, realm=realm)
        wait_until(lambda: current().network(realm).find(name, WAIT), WAIT)

    def take(self, value: Any) -> None:
        self.received.append(value)

    def fire(self, count: int) -> None:
        for number in range(count):
            self.tick(number)

    @heros.event
    def tick(self, value: Any) -> Any:
        return value


def test_a_method_of_ours_at_an_event_of_an_old_hero(original: Originals) -> None:
    """It is then the old process that calls ours."""
    original.start("old")
    old = original.hero("old")
    with Ours("ours", realm=original.realm) as ours:
        proxy = RemoteHERO("ours", original.realm)
        assert old.tick.connect(proxy.take) == "ours.take"
        (described,) = old.tick.get_callbacks()
        assert described["func"] == proxy.take
        old.fire_value({"image": np.arange(3)})
        (value,) = ours.received
        assert value["image"].tolist() == [0, 1, 2]
        assert old.tick.disconnect(proxy.take) is True
        old.fire(1)
        assert len(ours.received) == 1


def test_an_old_program_attaches_methods_to_events_of_both_kinds(original: Originals) -> None:
    original.start("old", "program")
    old, program = original.hero("old"), original.hero("program")
    with Ours("ours", realm=original.realm) as ours:
        assert program.attach("old", "ours") == "ours.take"
        assert program.attach("ours", "old") == "old.take"
        old.fire(2)
        assert ours.received == [0, 1]
        ours.fire(3)
        wait_until(lambda: len(old.taken()) == 3, WAIT, lambda: f"{old.taken()}")
        assert old.taken() == [0, 1, 2]


def test_ours_goes_to_an_old_hero_and_is_called_by_it(original: Originals) -> None:
    original.start("old")
    old = original.hero("old")
    with Ours("ours", realm=original.realm) as ours:
        old.set_partner(ours)
        assert old.partner == RemoteHERO("ours", original.realm)
        assert old.call_partner("by the partner") is None
        assert ours.received == ["by the partner"]


def test_callbacks_of_this_process_are_listed_beside_those_at_the_owner(original: Originals) -> None:
    original.start("one", "two")
    one, two = original.hero("one"), original.hero("two")
    one.tick.connect(print)
    one.tick.connect(two.take)
    contexts = [(each["name"], each["context"], each["is_remote_hero"]) for each in one.tick.get_callbacks()]
    assert contexts == [(repr(print), "RemoteHERO", False), ("two.take", "LocalHERO", True)]


# -- life and death -------------------------------------------------------------------------------------------


def test_a_server_that_is_killed_ends_its_calls(original: Originals) -> None:
    child = original.start("old")
    hero = original.hero("old")
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(hero.wait), pool.submit(hero.sleep, 600)
        assert hero.wait_until_busy() is True
        child.kill9()
        for call in waiting:
            with pytest.raises(PeerLost, match="old"):
                call.result(WAIT)
    wait_until(lambda: hero._binding.bound.channel.closed, WAIT)
    with pytest.raises(HEROUnavailable):
        hero.add(1)


def test_a_hero_that_is_destroyed_ends_its_calls(original: Originals) -> None:
    child = original.start("old", "other")
    hero, other = original.hero("old"), original.hero("other")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hero.wait)
        assert hero.wait_until_busy() is True
        do(child, "destroy old")
        with pytest.raises(PeerLost, match="old"):
            waiting.result(WAIT)
    assert other.add(1) == 3


def test_a_call_without_a_reply_does_not_return(hero: RemoteHERO) -> None:
    """SystemExit passes by the original's ``except Exception``: there is no reply, though the process lives."""
    with pytest.raises(PeerLost, match="old"):
        hero.silent()
    assert hero.add(1) == 3


def test_a_proxy_goes_on_with_a_server_that_restarts(original: Originals, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "heros.binding")
    child = original.start("old")
    hero = original.hero("old")
    before = hero.pid()
    got: list[int] = []
    hero.tick.connect(got.append)
    hero.fire(1)
    wait_until(lambda: got == [0], WAIT)
    child.kill9()
    wait_until(lambda: hero._binding.bound.channel.closed, WAIT)
    original.start("old")

    def answer() -> Any:
        try:
            return hero.pid()
        except (HEROUnavailable, PeerLost):
            return None

    assert wait_until(answer, WAIT) != before
    hero.fire_value("after")  # subscriptions follow before the call that looks for the successor returns
    wait_until(lambda: got == [0, "after"], WAIT, lambda: f"{got}")
    assert "with its successor in a process with the original package, by net" in caplog.text


def test_a_call_to_a_server_that_is_stopped_times_out_and_others_go_on(original: Originals) -> None:
    child = original.start("old")
    original.start("other")
    hero, other = original.hero("old"), original.hero("other")
    child.stop()
    try:
        with pytest.raises(CallTimeout):
            hero.echo.options(timeout=0.5)(np.zeros(8 << 20, np.uint8))
        assert other.add(1) == 3
    finally:
        child.cont()
    assert hero.add(1) == 3


def test_one_of_two_of_a_name_is_bound_and_its_replies_alone_count(original: Originals) -> None:
    children = [original.start("twice"), original.start("twice")]
    hero = original.hero("twice")
    wait_until(lambda: len(current().network(original.realm).find("twice", 5)) == 2, WAIT)
    assert len({hero.pid() for _ in range(20)}) == 1
    next(child for child in children if child.pid == hero.pid()).kill9()

    def answer() -> Any:
        try:
            return hero.pid()
        except PeerLost:
            return None

    assert wait_until(answer, WAIT) in {child.pid for child in children if child.alive}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_connects_anew(original: Originals) -> None:
    original.start("old")
    original.hero("old")  # this process listens
    program = f"""
import os, heros
hero = heros.RemoteHERO("old", {original.realm!r}, wait={WAIT})
got = []
hero.tick.connect(got.append)
if os.fork() == 0:
    print("CHILD", hero.add(1), flush=True)
    os._exit(0)
os.wait()
print("PARENT", hero.add(2), flush=True)
"""
    with Child(program, env={"HEROS_ZENOH_CONFIG": zenoh_config(original.port, listen=False)}) as child:
        assert child.expect("CHILD", WAIT) == "3"
        assert child.expect("PARENT", WAIT) == "4"
        assert child.wait(WAIT) == 0


def test_a_program_with_a_proxy_of_one_ends_by_itself(original: Originals) -> None:
    original.start("old")
    original.hero("old")  # this process listens, so that those two meet
    program = f"""
import heros
hero = heros.RemoteHERO("old", {original.realm!r}, wait={WAIT})
hero.tick.connect(print)
print(hero.add(1))
"""
    with Child(program, env={"HEROS_ZENOH_CONFIG": zenoh_config(original.port, listen=False)}) as child:
        child.expect("3", WAIT)
        assert child.wait(WAIT) == 0
        assert "Traceback" not in child.errors
