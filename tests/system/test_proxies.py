"""Proxies over time: HEROs that are created anew, forked children, proxies that are lifted, pickled and shown."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest

from heros import LocalHERO, RemoteHERO, dispatch, event, limits, node
from heros.exceptions import DecodeError, HEROSError, HEROUnavailable, RemoteHEROError
from tests.harness import Child, wait_until


class Refused(Exception):
    pass


class Counter(LocalHERO):
    partner: LocalHERO | None = None

    def __init__(self, name: str, **options: object) -> None:
        self.taken: list[object] = []
        super().__init__(name, **options)

    def take(self, value: object = None) -> None:
        self.taken.append(value)

    def refuse(self, value: object) -> None:
        raise Refused(value)

    @event
    def tick(self, value: object) -> object:
        return value


class Other(LocalHERO):
    """A successor that has nothing of what a Counter has."""

    def nothing(self) -> None: ...


SERVER = """
import sys
from heros import LocalHERO, event
class Counter(LocalHERO):
    def take(self, value): pass
    def fire(self): self.tick(1)
    @event
    def tick(self, value): return value
hero = Counter(sys.argv[1], realm=sys.argv[2])
print("READY", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["inproc", "shm"])
def counter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """A HERO of this process, which goes on when the HERO is destroyed."""
    if request.param == "shm":
        monkeypatch.setenv("HEROS_TRANSPORT", "shm")
    return Counter("counter")


# -- created anew, in a process that goes on ------------------------------------------------------------------


def test_oneway_calls_find_the_hero_that_was_created_anew(counter):
    proxy = RemoteHERO("counter")
    counter._destroy_hero()
    successor = Counter("counter")

    def arrived() -> bool:
        proxy.take.oneway(1)
        return bool(successor.taken)

    wait_until(arrived)


def test_oneway_calls_find_the_hero_that_is_created_anew_later(counter):
    proxy = RemoteHERO("counter")
    counter._destroy_hero()
    proxy.take.oneway("lost")
    successor = Counter("counter")

    def arrived() -> bool:
        proxy.take.oneway("found")
        return bool(successor.taken)

    wait_until(arrived)
    assert "lost" not in successor.taken


def test_every_sample_goes_to_the_hero_that_was_created_anew(counter):
    source = Counter("source")
    source.tick.connect(RemoteHERO("counter").take)
    source.tick(0)
    wait_until(lambda: counter.taken == [0])
    counter._destroy_hero()
    successor = Counter("counter")
    for number in range(5):
        source.tick(number)
    wait_until(lambda: sorted(successor.taken) == [0, 1, 2, 3, 4], what=lambda: str(successor.taken))


def test_a_callback_connects_to_the_hero_that_was_created_anew(counter):
    proxy = RemoteHERO("counter")
    counter._destroy_hero()
    successor = Counter("counter")
    seen: list[object] = []
    proxy.tick.connect(seen.append)
    successor.tick(1)
    wait_until(lambda: seen == [1])


def test_connecting_to_a_hero_that_is_gone_says_which(counter):
    proxy = RemoteHERO("counter")
    counter._destroy_hero()
    with pytest.raises(HEROUnavailable, match="'counter'"):
        proxy.tick.connect(print)
    assert not proxy.tick.is_callback(print)


def test_connecting_a_second_callback_to_a_hero_that_is_gone_says_which(counter):
    proxy = RemoteHERO("counter")
    proxy.tick.connect(print)
    counter._destroy_hero()
    wait_until(lambda: not proxy.tick._subscription.attached, what="the end to be told")
    with pytest.raises(HEROUnavailable, match="'counter'"):
        proxy.tick.connect(repr)
    assert not proxy.tick.is_callback(repr)
    successor = Counter("counter")
    seen: list[object] = []
    proxy.tick.connect(seen.append)
    successor.tick(1)
    wait_until(lambda: seen == [1])


def test_connecting_to_an_event_that_is_gone_says_which(counter):
    proxy = RemoteHERO("counter")
    counter._destroy_hero()
    Other("counter")
    with pytest.raises(AttributeError, match="'tick'"):
        proxy.tick.connect(print)
    assert not proxy.tick.is_callback(print)


def test_a_callback_whose_method_is_gone_holds_no_place(counter):
    source = Counter("source")
    source.tick.connect(RemoteHERO("counter").take)
    (callback,) = source.tick.callbacks
    counter._destroy_hero()
    Other("counter")
    for number in range(5):
        source.tick(number)
    wait_until(lambda: callback._under_way == 0)


# -- chains ---------------------------------------------------------------------------------------------------


def test_a_oneway_call_waits_until_the_one_that_made_it_is_done():
    class Driver(LocalHERO):
        _hero_concurrency = "object"

        def __init__(self) -> None:
            self.log: list[str] = []
            super().__init__("driver")

        def outer(self) -> None:
            RemoteHERO("driver").inner.oneway()
            RemoteHERO("driver").echo()  # one of the same chain is let in, and comes after
            time.sleep(0.05)
            self.log.append("outer")

        def inner(self) -> None:
            self.log.append("inner")

        def echo(self) -> None: ...

    driver = Driver()
    RemoteHERO("driver").outer()
    wait_until(lambda: len(driver.log) == 2)
    assert driver.log == ["outer", "inner"]


def test_oneway_calls_may_follow_each_other_without_end():
    class Runner(LocalHERO):
        count: int = 0

        def again(self) -> None:
            self.count += 1
            if self.count < 100:
                RemoteHERO("runner").again.oneway()

    runner = Runner("runner")
    RemoteHERO("runner").again()
    wait_until(lambda: runner.count == 100, what=lambda: str(runner.count))


# -- callbacks ------------------------------------------------------------------------------------------------


def test_heros_of_one_name_in_two_realms_are_both_called():
    one, two, source = Counter("counter"), Counter("counter", realm="other"), Counter("source")
    source.tick.connect(RemoteHERO("counter").take)
    source.tick.connect(RemoteHERO("counter", realm="other").take)
    source.tick(1)
    wait_until(lambda: (one.taken, two.taken) == ([1], [1]))
    assert source.tick.disconnect(RemoteHERO("counter").take)
    source.tick(2)
    wait_until(lambda: two.taken == [1, 2])
    assert one.taken == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_starts_without_its_parents_callbacks(tmp_path: Path):
    with Child(SERVER, "counter", "heros") as server:
        server.ready()
        proxy = RemoteHERO("counter")
        calls = tmp_path / "calls"

        def note(who: str) -> None:
            with calls.open("a") as file:
                file.write(f"{who} in {os.getpid()}\n")

        proxy.tick.connect(lambda value: note("parent's"))
        proxy.tick._lock.acquire()  # as another thread may, at the moment of the fork
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            done = threading.Event()
            proxy.tick.connect(lambda value: (note("child's"), done.set()))
            proxy.fire()
            done.wait(20)
            os._exit(0)
        proxy.tick._lock.release()
        assert os.waitpid(child, 0)[1] == 0
        wait_until(lambda: len(calls.read_text().splitlines()) == 2, what=calls.read_text)
        assert sorted(calls.read_text().splitlines()) == [f"child's in {child}", f"parent's in {os.getpid()}"]


def test_a_remote_event_is_not_its_own_callback(counter):
    proxy = RemoteHERO("counter")
    with pytest.raises(ValueError, match="itself"):
        proxy.tick.connect(proxy.tick)
    assert not proxy.tick.is_callback(proxy.tick)


def test_to_call_a_remote_event_that_calls_nobody_is_warned_of_once(counter, caplog):
    proxy = RemoteHERO("counter")
    seen: list[object] = []
    proxy.tick.connect(seen.append)
    proxy.tick(1)
    assert (seen, caplog.text) == ([1], "")
    proxy.tick.disconnect(seen.append)
    for _ in range(3):
        proxy.tick(2)
    assert caplog.text.count("there are none") == 1


def test_a_remote_callback_that_fails_is_logged_with_the_event_and_the_exception(counter, caplog):
    source = Counter("source")
    source.tick.connect(RemoteHERO("counter").refuse)
    source.tick(7)
    wait_until(lambda: "heros/source/tick: callback counter.refuse failed" in caplog.text, what=lambda: caplog.text)
    assert "Refused: 7" in caplog.text


# -- errors and time-outs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "times"), [("\udcff", 1), ("x", 65 << 20)])
def test_whatever_the_text_of_an_exception_it_arrives(counter, text, times):
    class Raiser(LocalHERO):
        def raise_it(self) -> None:
            raise ValueError(text * times)

    hero = Raiser("raiser")
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        RemoteHERO("raiser").raise_it.options(timeout=20)()
    assert isinstance(caught.value, RemoteHEROError)
    hero._destroy_hero()


def test_a_short_time_out_bounds_the_search_for_a_successor(net_realm, monkeypatch):
    with Child(SERVER, "counter", net_realm, env={"HEROS_NET": "off"}) as server:
        server.ready()
        proxy = RemoteHERO("counter", realm=net_realm, timeout=0.3)
        bound = proxy._binding.bound
        server.kill9()
        wait_until(lambda: bound.channel.closed)
    asked: list[float] = []
    bind = node.Node.bind

    def noting(self: node.Node, *args: object, discovery: float, **options: object) -> object:
        asked.append(discovery)
        return bind(self, *args, discovery=discovery, **options)

    monkeypatch.setattr(node.Node, "bind", noting)
    with pytest.raises(HEROSError):
        proxy.take(1)
    assert asked == [0.3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"object_id": -1},
        {"object_id": 0},
        {"object_id": 1 << 64},
        {"object_id": True},
        {"object_id": "1"},
        {"object_id": None},
        {"instance": 7},
        {"class_name": None},
        {"implements": [1]},
        {"tags": 3},
        {"extra_metadata": {"a": 1}},
        {"extra_metadata": "ab"},
        {"capabilities": None},
        {"capabilities": [1]},
        None,
        [1, 2],
    ],
    ids=str,
)
def test_a_description_that_makes_no_sense_is_refused(wrong, monkeypatch):
    describe = dispatch.Dispatcher._bind

    def nonsense(self: dispatch.Dispatcher, *arguments: object) -> object:
        description = describe(self, *arguments)
        return {**description, **wrong} if isinstance(wrong, dict) else wrong

    monkeypatch.setattr(dispatch.Dispatcher, "_bind", nonsense)
    Counter("counter")
    (entry,) = node.current()._own("heros", "counter")
    with pytest.raises(DecodeError, match="'counter' makes no sense"):
        node.current()._describe("inproc", entry, None)
    with pytest.raises(HEROUnavailable, match="'counter' makes no sense"):
        RemoteHERO("counter")


@pytest.mark.parametrize(("variable", "timeout"), [("inf", None), ("0", None), ("5", 5.0)])
def test_a_time_out_without_end_is_none(variable, timeout, monkeypatch):
    monkeypatch.setenv("HEROS_CALL_TIMEOUT", variable)
    limits.call_timeout.cache_clear()
    try:
        Counter("counter")
        assert RemoteHERO("counter")._binding.timeout == timeout
    finally:
        limits.call_timeout.cache_clear()


# -- lifted, pickled, shown -----------------------------------------------------------------------------------


def test_one_user_of_a_nested_hero_disconnects_only_itself():
    owner, holder = Counter("owner"), Counter("holder")
    holder.partner = owner
    proxy = RemoteHERO("holder")
    one, two = proxy.partner, proxy.partner
    assert one == two
    assert one._binding is two._binding
    seen: list[object] = []
    two.tick.connect(seen.append)
    with one:
        pass
    owner.tick(1)
    wait_until(lambda: seen == [1])


def test_a_time_out_survives_pickling():
    Counter("counter")
    proxy = pickle.loads(pickle.dumps(RemoteHERO("counter", timeout=2.0)))
    assert (proxy._binding.timeout, proxy.take._timeout) == (2.0, 2.0)
    assert pickle.loads(pickle.dumps(proxy.take.options(timeout=7.0)))._timeout == 7.0
    assert pickle.loads(pickle.dumps(RemoteHERO("counter")))._binding.timeout is None


def test_a_subclass_with_a_time_out_of_its_own_pickles():
    Counter("counter")
    assert pickle.loads(pickle.dumps(Impatient("counter")))._binding.timeout == 3.0


def test_a_remote_event_is_pickled_as_a_reference(counter):
    event = pickle.loads(pickle.dumps(RemoteHERO("counter").tick))
    seen: list[object] = []
    event.connect(seen.append)
    counter.tick(1)
    wait_until(lambda: seen == [1])


@pytest.mark.parametrize("what", [lambda hero: hero, lambda hero: hero.tick, lambda hero: hero.take])
def test_what_stays_in_its_process_is_not_pickled_and_says_what_is(counter, what):
    with pytest.raises(TypeError, match=r"RemoteHERO\("):
        pickle.dumps(what(counter))


class Impatient(RemoteHERO):
    def __init__(self, name: str, realm: str = "heros") -> None:
        super().__init__(name, realm, timeout=3.0)


def test_a_proxy_of_a_dead_hero_can_be_shown(monkeypatch):
    counter = Counter("counter")
    proxy = RemoteHERO("counter")
    counter._destroy_hero()
    node.shutdown()
    monkeypatch.setattr(node.Node, "bind", None)  # nothing is looked up
    assert "'counter'" in repr(proxy)
    assert "not connected" in repr(RemoteHERO.__new__(RemoteHERO, "nobody"))
