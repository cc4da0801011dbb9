"""HEROs of ours as programs of the original package see them: one test for each thing that these can do."""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import heros
from heros import LocalDatasourceHERO, LocalHERO, event
from heros.demo.loopback import zenoh_config
from heros.net.bus import Bus
from heros.net.legacy import cbor, translate
from heros.node import current
from heros.sessions import session_manager
from tests.harness import ORIGINAL, Child, wait_until
from tests.system.lab import Instrument
from tests.system.original import Original, OriginalError

pytestmark = pytest.mark.skipif(not ORIGINAL.exists(), reason="`make test` makes .venv-original")


class Bench(LocalHERO):
    """What the instrument of the lab has not."""

    declared: float
    partner: Any = None

    def duration(self) -> dt.timedelta:
        return dt.timedelta(seconds=1)

    def describe(self, value: Any) -> str:
        return f"{type(value).__name__} {value!r}"

    def array(self, value: np.ndarray) -> list[Any]:
        return [str(value.dtype), list(value.shape), value.sum(), bool(value.flags.writeable)]

    def same_array(self, value: np.ndarray) -> np.ndarray:
        return value

    def publish(self, value: Any) -> None:
        self.sample(value)

    @event
    def sample(self, value: Any) -> Any:
        return value

    @event
    def other(self, value: Any) -> Any:
        return value


@pytest.fixture
def one(net_realm: str) -> Instrument:
    return Instrument("one", net_realm)


@pytest.fixture
def bench(net_realm: str) -> Bench:
    return Bench("bench", realm=net_realm)


@pytest.fixture
def original(net_realm: str, one: Instrument, bench: Bench) -> Iterator[Any]:
    """A process of the original, with proxies of the two HEROs."""
    with Original(net_realm, int(os.environ["HEROS_TEST_PORT"])) as process:
        process.ask("one, bench = find('one'), find('bench')")
        yield process
        process.end(60)


# -- calls ------------------------------------------------------------------------------------------------------------


def test_a_method_is_called(original):
    assert original.ask("[one.add(1), one.add(1, 5), one.add(a=1, b=2, c=3)]") == [3, 6, 6]
    assert original.ask("one.keywords(a=1, value=2)") == {"a": 1, "value": 2}
    assert original.ask("one.pid()") == os.getpid()


def test_a_private_method_that_is_offered_is_called_and_others_are_not_there(original):
    assert original.ask("one._calibrate()") == "calibrated"
    assert original.ask("hasattr(one, 'secret') or hasattr(one, '_private')") is False


def test_values(original):
    original.ask(
        "import datetime, decimal, fractions, uuid\n"
        "values = [None, True, -3, 1 << 80, -(1 << 80), 1.5, 'text ü', b'bytes', 1 + 2j, {1, 2}]\n"
        "values += [{1: 'a', 'b': [1]}, []]\n"
        "values += [decimal.Decimal('1.25'), fractions.Fraction(1, 3), uuid.UUID(int=5), datetime.date(2026, 1, 2),\n"
        "           datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)]"
    )
    assert original.ask("[one.echo(value) for value in values] == values")
    assert original.ask("one.echo(values) == values")
    assert original.ask("one.echo((1, (2, 3)))") == [1, [2, 3]]
    assert original.ask("bench.describe({1, 2}), bench.describe(1.0)") == ["set {1, 2}", "float 1.0"]


def test_arrays(original, bench):
    original.ask(
        "arrays = [np.arange(6.0).reshape(2, 3), np.arange(6, dtype='>u2').reshape(2, 3).T, np.array(3)]\n"
        "arrays += [np.zeros((0, 2)), np.array(['a', 'bc']), np.array([True]), np.arange(3) * 1j]\n"
        "arrays += [np.zeros(3_000_000, np.uint8)]\n"
        "def same(a, b): return a.dtype == b.dtype and a.shape == b.shape and (a == b).all()"
    )
    assert original.ask("all(same(bench.same_array(array), array) for array in arrays)")
    assert original.ask("bench.array(np.arange(6, dtype='f4').reshape(2, 3))") == ["float32", [2, 3], 15.0, False]
    assert original.ask("int(one.image(2_000_000)[1234567])") == 1234567 % 256
    bench.partner = np.array(["2026-01-01"], "M8[us]")
    assert original.ask("same(bench.partner, np.array(['2026-01-01'], 'M8[us]'))")


def test_numpy_scalars_arrive_as_numbers(original, bench):
    bench.partner = [np.float32(1.5), np.int16(3), np.bool_(True)]
    assert original.ask("bench.partner") == [1.5, 3, True]


def test_attributes_are_read_and_written(original, one):
    assert original.ask("[one.exposure, one.frames, one.serial]") == [0.01, 7, "S-1"]
    original.ask("one.exposure = 0.5")
    assert one.exposure == 0.5
    original.ask("one.partner = np.arange(3)")
    assert one.partner.tolist() == [0, 1, 2]
    original.ask("one.partner = None")
    assert one.partner is None


def test_an_attribute_without_a_value_is_none(original, bench):
    assert original.ask("bench.declared") is None
    original.ask("bench.declared = 2.0")
    assert original.ask("bench.declared") == 2.0


def test_protocol_0_1_sends_all_arguments_by_name(original):
    assert original.ask("one._query_endpoint('add', payload={'a': 1, 'b': 5})") == 6


def test_a_slow_method_holds_up_no_other(original, one):
    original.ask("result = []\nthread = threading.Thread(target=lambda: result.append(one.wait()))\nthread.start()")
    assert one.wait_until_busy()
    assert original.ask("one.add(1)") == 3
    original.ask("one.let_go()")
    original.wait_for("result == ['waited']")


def test_many_threads_call_at_once(original):
    original.ask(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool: sums = list(pool.map(lambda n: one.add(n, n), range(200)))"
    )
    assert original.ask("sums") == [2 * n for n in range(200)]


# -- exceptions -------------------------------------------------------------------------------------------------------


def test_what_a_method_raises_is_raised(original):
    with pytest.raises(OriginalError) as info:
        original.ask("one.raise_it('ValueError', 'too hot')")
    assert {"RemoteValueError", "RemoteHEROError", "ValueError"} <= set(info.value.kinds)
    original.ask("try: one.raise_it('ValueError', 'too hot')\nexcept ValueError as e: error = e")
    assert original.ask("[error.message, error.remote_type]") == ["too hot", "ValueError"]
    assert original.ask("error.endpoint").endswith("one/raise_it/**")
    assert "lab.py" in original.ask("error.remote_traceback")


@pytest.mark.parametrize("name", ["SystemExit", "Own", "KeyError"])
def test_whatever_a_method_raises_the_server_lives(original, name):
    with pytest.raises(OriginalError) as info:
        original.ask(f"one.raise_it('{name}')")
    assert "RemoteHEROError" in info.value.kinds
    assert original.ask("one.add(1)") == 3


def test_what_a_setter_raises_is_raised(original):
    assert original.ask("one.gain") == 2.0
    with pytest.raises(OriginalError, match=r"gain 3\.0 is out of range") as info:
        original.ask("one.gain = 3.0")
    assert "ValueError" in info.value.kinds


def test_writing_what_is_read_only_raises(original):
    with pytest.raises(OriginalError, match="read-only") as info:
        original.ask("one.serial = 'S-2'")
    assert "AttributeError" in info.value.kinds


def test_arguments_that_do_not_fit_raise(original):
    with pytest.raises(OriginalError) as info:
        original.ask("one.add()")
    assert "TypeError" in info.value.kinds


def test_a_result_that_protocol_1_cannot_express_raises_and_says_so(original):
    with pytest.raises(OriginalError, match="total_seconds"):
        original.ask("bench.duration()")


def test_a_member_that_is_not_there_raises(original):
    with pytest.raises(OriginalError, match="no member 'nothing'"):
        original.ask("one._query_endpoint('nothing', payload=((), {}))")


def test_garbage_is_refused_and_the_next_call_works(original):
    original.ask(
        "def raw(payload):\n"
        "    reply, = one._session.get(f'@object/{realm}/one/add/**', payload=payload)\n"
        "    return one._deserialize(reply.err.payload.to_bytes())"
    )
    for payload in (b"\xff", b"\x03", b"\x81" * 200, b"\x82\x01\x02"):
        assert original.ask(f"raw({payload!r}).remote_type") == "DecodeError"
    assert original.ask("one.add(1)") == 3


# -- HEROs, their members and other objects in values ------------------------------------------------------------------


def test_a_hero_as_a_result_and_as_an_argument(original):
    assert original.ask("[one.myself()._name, one.myself() == one, one.myself().add(1)]") == ["one", True, 3]
    assert original.ask("one.use(one, one.add)") == ["through an argument", 3]
    assert original.ask("one.echo({'hero': one})['hero'] == one")


def test_a_method_and_an_event_of_a_hero_as_values(original):
    assert original.ask("one.my_method()(1)") == 3
    assert original.ask("[one.echo(one.add).__name__, one.echo(one.tick).__name__]") == ["add", "tick"]
    assert original.ask("one.echo(one.tick).instance == one")


def test_a_hero_as_an_attribute(original, one):
    original.ask("bench.partner = one")
    assert original.ask("bench.partner == one")


def test_an_object_of_ours_stays_here_and_is_itself_again_when_it_comes_back(original):
    original.ask("thing = one.opaque()")
    assert original.ask("[type(thing).__name__, thing.type.split('.')[-1], thing.representation]") == [
        "UnserializableRemoteObject",
        "Opaque",
        "opaque one",
    ]
    assert original.ask("one.label_of(thing)") == "one"
    original.ask("one.lose_opaque()")
    with pytest.raises(OriginalError, match="no longer exists"):
        original.ask("one.label_of(thing)")


def test_an_object_of_the_original_stays_there_and_is_itself_again_when_it_comes_back(original, one):
    original.ask("class Thing: pass\nthing = Thing()")
    assert original.ask("one.echo([thing])[0] is thing")
    original.ask("one.take(thing)")
    assert one.received[-1].type.endswith("Thing")
    assert original.ask("one.taken()[0] is thing")


# -- events -----------------------------------------------------------------------------------------------------------


def test_an_event_arrives(original):
    original.ask("got = []\nname = one.tick.connect(got.append)")
    original.ask("one.fire(3)")
    original.wait_for("got == [0, 1, 2]")
    assert original.ask("one.tick.disconnect(got.append)")
    original.ask("more = []\none.tick.connect(more.append)\none.fire(2)")
    original.wait_for("more == [0, 1]")
    assert original.ask("got") == [0, 1, 2]


def test_an_event_that_this_process_publishes_by_itself(original, bench):
    original.ask("got = []\nbench.sample.connect(got.append)")
    wait_until(lambda: bench.sample.publisher.wanted, 60)
    bench.sample({"i": 1, "f": (1.5, "mV")})
    bench.sample(np.arange(1_000_000))
    original.wait_for("len(got) == 2")
    assert original.ask("got[0]") == {"i": 1, "f": [1.5, "mV"]}
    assert original.ask("got[1].shape, int(got[1].sum())") == [[1_000_000], 499999500000]


@pytest.fixture
def no_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zenoh is so late to tell of subscribers that it never does."""
    real = Bus.audience
    monkeypatch.setattr(Bus, "audience", lambda bus, key, on_change: real(bus, key, lambda: None))


def test_whoever_listens_and_calls_gets_what_the_call_publishes_however_late_zenoh_is(no_notices, original):
    original.ask("got = []\nbench.sample.connect(got.append)\nbench.publish(1)")
    original.wait_for("got == [1]")
    original.ask(
        "observer = heros.EventObserver('*', 'sample', realm=realm)\n"
        "observer.register_callback(lambda name, value: got.append((name, value)))\n"
        "bench.publish(2)"
    )
    original.wait_for("2 in got and ('bench', 2) in got")


def test_a_burst_of_samples_arrives(original):
    original.ask("got = []\none.tick.connect(got.append)\none.fire(5000)")
    original.wait_for("len(got) == 5000")
    assert original.ask("got == list(range(5000))")


def test_the_last_samples_before_the_network_is_closed_arrive(original, one):
    original.ask("got = []\none.tick.connect(got.append)")
    wait_until(lambda: one.tick.publisher.wanted, 60)
    one.fire(1000)
    session_manager.force_close()
    original.wait_for("len(got) == 1000")


def test_every_sample_of_a_reliable_event_arrives(original, one):
    original.ask("got = []\nimport time\none.surely.connect(lambda v: (got.append(v), time.sleep(0.0002)))")
    wait_until(lambda: one.surely.publisher.wanted, 60)
    thread = threading.Thread(target=one.fire_reliably, args=(3000,))
    thread.start()
    original.wait_for("len(got) == 3000")
    thread.join(60)
    assert original.ask("got == list(range(3000))")


def test_a_late_subscriber_gets_what_is_kept(original, one):
    one.state("ready")
    original.ask("got = []\nobserver = heros.EventObserver('one', 'state', realm=realm)")
    original.ask("observer.register_callback(lambda name, value: got.append(value))\none.set_state('busy')")
    original.wait_for("got[-1:] == ['busy']")


def test_an_event_observer_of_all_heros(original, one, bench):
    original.ask(
        "got = []\nobserver = heros.EventObserver('*', 'tick', realm=realm)\n"
        "observer.register_callback(lambda name, value: got.append((name, value)))"
    )
    original.ask("one.fire(2)")
    original.wait_for("got == [('one', 0), ('one', 1)]")


def test_a_sample_that_protocol_1_cannot_express_is_logged_and_the_next_arrives(original, bench, caplog):
    original.ask("got = []\nbench.sample.connect(got.append)")
    wait_until(lambda: bench.sample.publisher.wanted, 60)
    bench.sample(dt.timedelta(1))
    bench.sample(1)
    original.wait_for("got == [1]")
    assert [record for record in caplog.records if "total_seconds" in record.getMessage()]


def test_a_listener_that_is_stopped_holds_up_nobody_else(original, one, bench, net_realm):
    with Original(net_realm, int(os.environ["HEROS_TEST_PORT"])) as stopped:
        for process in (stopped, original):
            process.ask(
                "bench = find('bench')\nkinds = []\n"
                "bench.sample.connect(lambda value: kinds.append(type(value).__name__))"
            )
        wait_until(lambda: bench.sample.publisher.wanted, 60)
        stopped.stop()
        frame = np.zeros(1_000_000, np.uint8)
        for _ in range(100):  # more than any queue takes
            bench.sample(frame)
        assert original.ask("one.add(1)") == 3
        assert original.ask("bench.describe(1)") == "int 1"
        stopped.cont()
        assert stopped.ask("bench.describe(1)") == "int 1"

        def read_all() -> bool:
            bench.sample("end")
            return all(process.ask("'str' in kinds") for process in (stopped, original))

        wait_until(read_all, 60)  # a session that ends with much on its way can keep zenoh's threads from the next test
        stopped.end(60)


def encodings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is encoded in CBOR from now on."""
    seen: list[Any] = []
    real = translate.value_to_cbor

    def counted(header, buffers, node_id):
        seen.append(header)
        return real(header, buffers, node_id)

    monkeypatch.setattr(translate, "value_to_cbor", counted)
    return seen


def test_nothing_is_encoded_that_no_program_of_the_original_listens_to(net_realm, bench, monkeypatch):
    seen = encodings(monkeypatch)
    bench.sample("nobody is there")
    with Original(net_realm, int(os.environ["HEROS_TEST_PORT"])) as original:
        original.ask("observer = heros.EventObserver('*', 'other', realm=realm)\ngot = []")
        original.ask("observer.register_callback(lambda name, value: got.append(value))")
        wait_until(lambda: bench.other.publisher.wanted, 60)
        bench.sample("nobody listens to this")
        bench.other("but to this")
        original.wait_for("got == ['but to this']")
        original.end(60)
    wait_until(lambda: not bench.other.publisher.wanted, 60, "the feed ends with its listener")
    bench.other("nobody is there any more")
    assert len(seen) == 1


def test_a_hero_has_two_declarations_and_no_thread(net_realm, bench):
    network = current().network(net_realm)
    network.session()
    wait_until(lambda: len(network._bus._kept) >= 7)
    with Original(net_realm, int(os.environ["HEROS_TEST_PORT"])) as original:
        original.ask("find('bench').describe(1)")
        threads, declared = threading.active_count(), len(network._bus._kept)
        more = [Instrument(f"more{n}", net_realm) for n in range(10)]
        original.ask("[find(f'more{n}') for n in range(10)] and None")
        events = sum(each.flavor == "event" for hero in more for each in hero.capabilities)
        # Each event has a publisher while there are proxies of the original.
        wait_until(lambda: len(network._bus._kept) == declared + 2 * len(more) + events, 60)
        assert threading.active_count() <= threads + 4  # workers, of which there are as many as there is work
        original.end(60)
    wait_until(lambda: len(network._bus._kept) == declared + 2 * len(more) - 2, 60, "without them it has not")


# -- methods of HEROs as callbacks -------------------------------------------------------------------------------------


def test_a_method_of_ours_at_an_event_of_ours(original, one, net_realm):
    two = Instrument("two", net_realm)
    assert original.ask("two = find('two')\n") is None
    assert original.ask("one.tick.connect(two.take)") == "two.take"
    one.tick(5)
    wait_until(lambda: two.received == [5])
    (described,) = original.ask("[{**each, 'func': each['func'].__name__} for each in one.tick.get_callbacks()]")
    assert described == {
        "name": "two.take",
        "origin": "one",
        "is_remote_hero": True,
        "func": "take",
        "context": "LocalHERO",
    }
    assert original.ask("one.tick.disconnect(two.take)") is True
    assert original.ask("one.tick.disconnect(two.take)") is False
    assert one.tick.get_callbacks() == []


SOURCE = """
class Source(heros.LocalHERO):
    @heros.event
    def data(self, value): return value
    def emit(self, value): self.data(value)
source = Source('source', realm=realm)
"""


def test_a_method_of_ours_at_an_event_of_the_original_that_is_local(original, one):
    original.ask(SOURCE)
    assert original.ask("source.data.connect(one.take)") == "one.take"
    original.ask("source.data([1, 2])")
    wait_until(lambda: one.received == [[1, 2]])


def test_a_method_of_ours_is_attached_at_an_event_of_the_original_that_is_remote(original, one, net_realm):
    original.ask(SOURCE)
    with Original(net_realm, int(os.environ["HEROS_TEST_PORT"])) as other:
        other.ask("source, one = find('source'), find('one')")
        assert other.ask("source.data.connect(one.take)") == "one.take"
        other.end(60)
    original.ask("source.data(7)")
    wait_until(lambda: one.received == [7])


def test_a_callback_of_ours_is_shown_to_the_original(original, one):
    one.tick.connect(print, origin="the test")
    (described,) = original.ask("[{**each, 'func': each['func'].type} for each in one.tick.get_callbacks()]")
    assert (described["origin"], described["is_remote_hero"]) == ("the test", False)


# -- what a HERO tells about itself ------------------------------------------------------------------------------------


def test_metadata(original, one, net_realm):
    zid = current().network(net_realm).zid
    assert set(original.ask("list(one._hero_tags)")) == {
        "camera",
        "from-class",
        "_proto_version:1.0",
        f"_zid:{zid}",
    }
    assert original.ask("one._hero_implements == {'tests.Instrument'}")
    metadata = original.ask("one._hero_extra_metadata")
    assert metadata["a"] == "b"
    assert heros.__version__ in metadata["pkg_versions"]
    assert original.ask("one._proto_version") == 1.0


def test_signatures(original):
    original.ask("import inspect")
    assert original.ask("str(inspect.signature(one.add))") == "(a: 'int', b: 'int' = 2, *, c: 'int' = 0) -> 'int'"


def test_the_answers_are_what_the_original_would_send(original, net_realm):
    """The same class on both sides: the same bytes, but for what is the process's own; and the same encodings."""
    source = (
        "class Twin({base}):\n"
        "    '''Not sent.'''\n"
        "    x: int = 3\n"
        "    _hero_tags = ['t']\n"
        "    def add(self, a: int, b: int = 2, *args, c: str = 'c', **kwargs) -> int: return a + b\n"
        "    @event\n"
        "    def data(self, value): return value\n"
    )
    names: dict[str, Any] = {"LocalHERO": LocalHERO, "event": event}
    exec(source.format(base="LocalHERO"), names)
    twin = names["Twin"]("twin", realm=net_realm)
    original.ask("from heros import event\n" + source.format(base="heros.LocalHERO"))
    original.ask(
        "theirs = Twin('theirs', realm=realm)\ntwin = find('twin')\n"
        "def ask(name, what, payload=None):\n"
        "    reply, = one._session.get(f'@object/{realm}/{name}/{what}', payload=payload)\n"
        "    sample = reply.ok or reply.err\n"
        "    where = str(reply.ok.key_expr).split('/')[3] if reply.ok else ''\n"
        "    return sample.payload.to_bytes(), where, str(sample.encoding)"
    )
    for what in ("_discover/**", "_capabilities", "x/**"):
        ours, theirs = (original.ask(f"ask('{name}', '{what}')") for name in ("twin", "theirs"))
        assert ours[1:] == theirs[1:]
    call = "one._serialize(((1,), {'b': 5}))"
    for what, payload in (("x/**", "b'\\x05'"), ("add/**", call), ("add/**", "one._serialize((('a',), {}))")):
        ours, theirs = (original.ask(f"ask('{name}', '{what}', {payload})") for name in ("twin", "theirs"))
        assert ours[1:] == theirs[1:]
        if ours[1]:
            assert ours[0] == theirs[0]
    original.ask(
        "def told(name):\n"
        "    by_name = {each['name']: each for each in one._deserialize(ask(name, '_capabilities')[0])}\n"
        "    return by_name\n"
    )
    ours, theirs = original.ask("told('twin')"), original.ask("told('theirs')")
    assert list(ours) == list(theirs)
    assert [ours[name] for name in ("add", "data", "x")] == [theirs[name] for name in ("add", "data", "x")]
    original.ask("def descriptor(name): return one._deserialize(ask(name, '_discover/**')[0])")
    assert original.ask("list(descriptor('twin')) == list(descriptor('theirs'))")
    assert original.ask("[type(v).__name__ for v in descriptor('twin').values()]") == [
        "float", "str", "str", "set", "set", "dict",
    ]  # fmt: skip
    original.ask("samples = []\nsub = one._session.declare_subscriber(f'@object/{realm}/*/data', samples.append)")
    wait_until(lambda: twin.data.publisher.wanted, 60)
    twin.data((1, 2.5))
    original.ask("theirs.data((1, 2.5))")
    original.wait_for("len(samples) >= 2")
    assert original.ask("len({(s.payload.to_bytes(), str(s.encoding)) for s in samples})") == 1


def test_discovery_and_liveliness(original, one, net_realm):
    original.ask(
        "observer = heros.HEROObserver(realm=realm)\nchanges = []\n"
        "observer.register_object_added_callback(lambda name: changes.append(('added', name)))\n"
        "observer.register_object_removed_callback(lambda name: changes.append(('removed', name)))"
    )
    assert set(original.ask("list(observer.known_objects)")) == {"one", "bench"}
    assert original.ask("observer.known_objects['one']['class']") == "Instrument"
    assert original.ask("set(observer._discover()) == {'one', 'bench'}")
    late = Instrument("late", net_realm)
    original.wait_for("('added', 'late') in changes and 'late' in observer.known_objects")
    assert original.ask("observer.get_object('late').add(1)") == 3
    late._destroy_hero()
    original.wait_for("('removed', 'late') in changes and 'late' not in observer.known_objects")


def test_a_hero_that_goes_does_not_answer_who_asks_whether_it_has_gone(original, net_realm, monkeypatch):
    """As observers of the original do when its token goes; if it still answers then, they never let go of it."""
    seen = threading.Event()
    real = Bus.undeclare

    def undeclare(bus: Bus, declared: Any) -> None:
        real(bus, declared)
        if type(declared).__name__ == "LivelinessToken":
            seen.wait(60)

    late = Instrument("late", net_realm)
    original.ask("find('late')\nobserver = heros.HEROObserver(realm=realm)")
    assert original.ask("'late' in observer.known_objects")
    monkeypatch.setattr(Bus, "undeclare", undeclare)
    late._destroy_hero()
    try:
        original.wait_for("'late' not in observer.known_objects")
    finally:
        seen.set()


def test_a_killed_process_is_gone_for_the_original(net_realm):
    port = int(os.environ["HEROS_TEST_PORT"])
    with Original(net_realm, port, listen=True) as original:
        original.ask("observer = heros.HEROObserver(realm=realm)")
        env = {"HEROS_ZENOH_CONFIG": zenoh_config(port, listen=False)}
        with Child(Path(__file__).with_name("lab.py"), net_realm, env=env) as lab:
            original.wait_for("'careful' in observer.known_objects")
            lab.kill9()
        original.wait_for("'careful' not in observer.known_objects and 'one' not in observer.known_objects")
        original.end(60)


def test_a_name_that_is_not_there(original):
    with pytest.raises(OriginalError, match="not found") as info:
        original.ask("heros.RemoteHERO('nobody', realm=realm)")
    assert info.value.kinds[0] == "NameError"


def test_a_proxy_goes_on_with_the_next_hero_of_its_name(original, bench, net_realm):
    bench.declared = 1.0
    assert original.ask("bench.declared") == 1.0
    bench._destroy_hero()
    again = Bench("bench", realm=net_realm)
    again.declared = 2.0
    original.wait_for("bench.declared == 2.0")
    original.ask("got = []\nbench.sample.connect(got.append)\nbench.publish(1)")
    original.wait_for("got == [1]")


# -- datasources -------------------------------------------------------------------------------------------------------


class Thermometer(LocalDatasourceHERO):
    _observables: ClassVar[dict[str, Any]] = {
        "t": {"target": "t", "raw_unit": "V", "unit": "K", "conversion": "10*x", "boundaries": [[0, 50]]}
    }


def test_a_datasource_observer(original, net_realm):
    thermometer = Thermometer("thermometer", realm=net_realm)
    original.ask(
        "from heros import DatasourceObserver\ngot = []\nobserver = DatasourceObserver('*', realm=realm)\n"
        "observer.register_observable_data_callback(lambda name, data: got.append((name, data)))"
    )
    wait_until(lambda: thermometer.observable_data.publisher.wanted, 60)
    thermometer.observable_data({"t": (2.5, "V"), "p": 1.0})
    original.wait_for("got")
    assert original.ask("got[0][0], type(got[0][1]).__name__") == ["thermometer", "DatasourceReturnSet"]
    assert original.ask("{v.id: (v.value, v.unit, v.inbound) for v in got[0][1]}['t']") == [25.0, "K", 0]


# -- without cbor2 ----------------------------------------------------------------------------------------------------


def test_without_cbor2_whoever_asks_is_told_and_so_is_the_log_once(net_realm, bench, monkeypatch, caplog):
    monkeypatch.setattr(cbor, "available", lambda: False)
    monkeypatch.setitem(sys.modules, "cbor2", None)
    cbor._library.cache_clear()
    caplog.set_level(logging.INFO, "heros.net")
    try:
        with Original(net_realm, int(os.environ["HEROS_TEST_PORT"])) as original:
            original.ask(
                "peer = heros.HEROObserver(realm=realm)\n"
                "def ask(what):\n"
                "    replies = list(peer._session.get(f'@object/{realm}/{what}', payload=b'\\x82\\x80\\xa0'))\n"
                "    return [peer._deserialize(each.err.payload.to_bytes()).message for each in replies]"
            )
            (message,) = original.wait_for("ask('bench/_discover/**')")
            assert 'pip install "heros[legacy]"' in message
            assert original.ask("ask('bench/describe/**')") == [message]
            assert original.ask("ask('*/_discover/**')") == []  # not one from each HERO
            original.end(60)
    finally:
        monkeypatch.undo()
        cbor._library.cache_clear()
    told = [record for record in caplog.records if "heros[legacy]" in record.getMessage()]
    assert len(told) == 1
