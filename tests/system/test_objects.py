"""HEROs as users see them, through each transport: the object in one process, its proxy in another."""

from __future__ import annotations

import gc
import inspect
import os
import pickle
import pydoc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import heros
from heros.demo.loopback import zenoh_config
from heros.exceptions import CallTimeout, EncodeError, HEROUnavailable, PeerLost, RemoteHEROError
from heros.references import UnserializableRemoteObject
from tests.harness import Child, wait_until
from tests.system import lab

LAB = Path(lab.__file__)


class Setup:
    """The realm, how it is reached, and the process that serves it (None: this one)."""

    def __init__(self, realm: str, transport: str, child: Child | None) -> None:
        self.realm = realm
        self.transport = transport
        self.child = child

    def proxy(self, name: str = "one", **options: object) -> heros.RemoteHERO:
        return heros.RemoteHERO(name, self.realm, wait=10.0, **options)


@pytest.fixture(params=["inproc", "shm", "net"])
def setup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    if request.param == "inproc":
        one = lab.Instrument("one", "here")
        two = lab.Instrument("two", "here")
        one.partner, two.partner = two, heros.RemoteHERO("one", "here")
        lab.Careful("careful", "here")
        yield Setup("here", "inproc", None)
        return
    changes = {}
    realm = "there"
    if request.param == "net":
        realm = request.getfixturevalue("net_realm")
        changes["HEROS_ZENOH_CONFIG"] = zenoh_config(int(os.environ["HEROS_TEST_PORT"]), listen=False)
    monkeypatch.setenv("HEROS_TRANSPORT", request.param)
    with Child(LAB, realm, env=changes) as child:
        if request.param == "net":
            heros.HEROObserver(realm)  # opens the listening side, to which the child connects
        child.ready()
        yield Setup(realm, request.param, child)


def test_it_is_reached_as_it_should_be(setup):
    hero = setup.proxy()
    assert heros.transport_of(hero) == setup.transport
    assert (hero.pid() == os.getpid()) == (setup.child is None)


def test_methods(setup):
    hero = setup.proxy()
    assert hero.add(1) == 3
    assert hero.add(1, b=5, c=6) == 12
    assert hero._calibrate() == "calibrated"


def test_a_method_has_the_owners_signature_and_docstring(setup):
    hero = setup.proxy()
    signature = inspect.signature(hero.add)
    assert list(signature.parameters) == ["a", "b", "c"]
    assert signature.parameters["b"].default == 2
    assert signature.parameters["c"].kind is inspect.Parameter.KEYWORD_ONLY
    assert hero.add.__doc__ == "Add numbers."
    assert hero.add.__name__ == "add"


def test_help_is_about_the_hero(setup):
    hero = setup.proxy()
    for member in (hero.add, hero.pid, hero.tick):
        text = pydoc.plain(pydoc.render_doc(member))
        assert f"{member.__name__} = <" in text
        assert "__init__" not in text  # it is about the member, and not about our class


def test_attributes(setup):
    hero = setup.proxy()
    assert hero.exposure == 0.01
    hero.exposure = 0.5
    assert hero.exposure == 0.5
    assert hero.frames == 7
    assert hero.serial == "S-1"
    with pytest.raises(AttributeError):
        hero.serial = "S-2"
    with pytest.raises(ValueError, match="out of range"):
        hero.gain = 99.0


def test_an_attribute_error_of_a_getter_arrives_with_its_traceback(setup):
    hero = setup.proxy()
    with pytest.raises(AttributeError, match="no_such_part") as caught:
        hero.broken  # noqa: B018
    assert isinstance(caught.value, RemoteHEROError)
    assert "in broken" in caught.value.remote_traceback
    assert hero.reads_of_broken() == 1
    assert not hasattr(hero, "broken")
    with pytest.raises(AttributeError, match="no member 'nothing'"):
        hero.nothing  # noqa: B018


def test_an_argument_may_be_called_self(setup):
    hero = setup.proxy()
    assert hero.keywords(self=4, name=5) == {"self": 4, "name": 5}
    hero.keywords.oneway(self=4)


def test_an_annotated_callable_is_a_method(setup):
    assert setup.proxy().handler(4) == 5


def test_what_is_private_stays_private(setup):
    hero = setup.proxy()
    for name in ("secret", "_private", "kept", "no_such_thing"):
        with pytest.raises(AttributeError):
            getattr(hero, name)
    with pytest.raises(AttributeError, match="exposre"):
        hero.exposre = 1.0


def test_metadata(setup):
    hero = setup.proxy()
    assert {"camera", "from-class", "_proto_version:1.0"} <= hero._hero_tags
    assert hero._hero_implements == {"tests.Instrument"}
    assert hero._hero_extra_metadata["a"] == "b"
    assert "pkg_versions" in hero._hero_extra_metadata
    assert "add" in {capability.name for capability in hero._get_capabilities()}


@pytest.mark.parametrize(
    "value",
    [None, True, 2**70, -1.5, "text", b"bytes", [1, [2, {"three": 3}]], {1: "one"}, {1, 2}, 3 + 4j, "x" * 100_000],
    ids=lambda value: type(value).__name__,
)
def test_values(setup, value):
    assert setup.proxy().echo(value) == value


def test_tuples_arrive_as_lists(setup):
    assert setup.proxy().echo((1, (2, 3))) == [1, [2, 3]]


@pytest.mark.parametrize("nbytes", [0, 1, 4095, 100_000, 8 << 20])
def test_arrays(setup, nbytes):
    hero = setup.proxy()
    expected = np.arange(nbytes, dtype=np.uint8)
    image = hero.image(nbytes)
    np.testing.assert_array_equal(image, expected)
    assert not image.flags.writeable
    assert hero.total(expected) == expected.sum()
    np.testing.assert_array_equal(hero.echo([image, {"again": image}])[1]["again"], expected)


def test_an_argument_may_be_changed_after_the_call(setup):
    hero = setup.proxy()
    array = np.ones(1 << 20, np.uint8)
    hero.take(array)
    array[:] = 9
    assert hero.taken()[0].sum() == 1 << 20


@pytest.mark.parametrize("name", ["ValueError", "KeyError"])
def test_a_remote_builtin_is_caught_as_such(setup, name):
    builtin = {"ValueError": ValueError, "KeyError": KeyError}[name]
    with pytest.raises(builtin) as caught:
        setup.proxy().raise_it(name)
    error = caught.value
    assert isinstance(error, RemoteHEROError)
    assert (error.remote_type, error.remote_module, error.message) == (name, "builtins", str(builtin("on purpose")))
    assert "raise_it" in error.remote_traceback
    assert error.endpoint == f"{setup.realm}/one/raise_it"


def test_a_remote_builtin_has_its_fields(setup):
    with pytest.raises(FileNotFoundError) as caught:
        setup.proxy().open("/nowhere/at all")
    assert (caught.value.errno, caught.value.filename) == (2, "/nowhere/at all")


def test_a_remote_class_of_ones_own_is_named(setup):
    with pytest.raises(RemoteHEROError) as caught:
        setup.proxy().raise_it("Own")
    assert caught.value.remote_type == "Own"


def test_a_method_that_exits_does_not_end_the_server(setup):
    hero = setup.proxy()
    with pytest.raises(RemoteHEROError) as caught:
        hero.raise_it("SystemExit")
    assert caught.value.remote_type == "SystemExit"
    assert hero.add(1) == 3


def test_wrong_arguments_are_the_owners_type_error(setup):
    with pytest.raises(TypeError):
        setup.proxy().add(1, 2, 3, 4)


def test_what_cannot_be_sent_is_refused_by_name(setup):
    hero = setup.proxy()
    with pytest.raises(EncodeError, match=r"one\.echo"):
        hero.echo(np.array([object()], dtype=object))
    assert hero.add(1) == 3


def test_nested_heros(setup):
    hero = setup.proxy()
    partner = hero.partner
    assert isinstance(partner, heros.RemoteHERO)
    assert partner == setup.proxy("two")
    assert hash(partner) == hash(setup.proxy("two"))
    assert partner.add(1) == 3
    assert hero.myself() == hero
    assert hero.my_method()(1) == 3
    assert hero.use(partner, partner.add) == ["through an argument", 3]
    assert partner.partner.partner.partner == hero


def test_unserialisable_objects(setup):
    hero = setup.proxy()
    thing = hero.opaque()
    if setup.child is None:
        assert isinstance(thing, lab.Opaque), "where it lives it is the object itself"
    else:
        assert isinstance(thing, UnserializableRemoteObject)
        assert thing.type.endswith("Opaque")
        assert thing.representation == "opaque one"
    assert hero.label_of(thing) == "one"
    assert hero.opaque() == thing
    if setup.child is None:
        return
    hero.lose_opaque()
    gc.collect()
    with pytest.raises(ReferenceError) as caught:
        hero.label_of(thing)
    assert caught.value.remote_traceback == "", "nothing of the owner's code was run"


def test_an_object_that_allows_no_weak_reference_comes_back_too(setup):
    hero = setup.proxy()
    assert hero.is_slotted(hero.slotted())


def test_a_path_arrives_as_its_text(setup):
    assert setup.proxy().echo([Path("/tmp/a"), {"file": Path("b")}]) == ["/tmp/a", {"file": "b"}]


def test_calls_within_calls(setup):
    hero = setup.proxy()
    hero.partner.partner  # noqa: B018  # both proxies exist
    assert hero.call_partner(10) == 10


def test_a_slow_method_delays_no_other(setup):
    hero = setup.proxy()
    results: list[str] = []
    waiting = [threading.Thread(target=lambda: results.append(hero.wait())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert hero.wait_until_busy()
    assert hero.add(1) == 3
    hero.let_go()
    for thread in waiting:
        thread.join(10)
    assert results == ["waited"] * 3


def test_a_call_that_is_slow_after_many_short_ones_delays_no_other(setup):
    hero = setup.proxy()
    for _ in range(100):
        hero.add(1)
    results: list[str] = []
    waiting = threading.Thread(target=lambda: results.append(hero.wait()))
    waiting.start()
    assert hero.wait_until_busy()
    assert hero.add(1) == 3
    hero.let_go()
    waiting.join(10)
    assert results == ["waited"]


def test_one_call_at_a_time_if_the_hero_says_so(setup):
    hero = setup.proxy("careful")
    most: list[int] = []
    threads = [
        threading.Thread(target=lambda method=method: most.extend(method() for _ in range(20)))
        for method in (hero.one, hero.other, hero.one, hero.other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1] * 80


def test_a_time_out(setup):
    hero = setup.proxy()
    with pytest.raises(CallTimeout, match=r"one/wait"):
        hero.wait.options(timeout=0.05)()
    hero.let_go()
    assert hero.add(1) == 3
    with pytest.raises(TimeoutError):
        setup.proxy("two", timeout=0.05).wait()
    setup.proxy("two").let_go()
    with pytest.raises(ValueError, match="timeout"):
        hero.wait.options(timeout=-1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": "1"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"wait": "1"}, TypeError),
        ({"wait": -1}, ValueError),
        ({"wait": None}, TypeError),
    ],
)
def test_impossible_times_are_refused(options, error):
    with heros.LocalHERO("timed"), pytest.raises(error, match="give a number of seconds"):
        heros.RemoteHERO("timed", **options)


def test_an_infinite_time_out_is_none(monkeypatch):
    monkeypatch.setenv("HEROS_CALL_TIMEOUT", "inf")
    heros.limits.call_timeout.cache_clear()
    try:
        with lab.Instrument("one", "here"):
            hero = heros.RemoteHERO("one", "here", timeout=float("inf"), wait=0)
            assert (hero._binding.timeout, hero.add.options(timeout=float("inf"))._timeout) == (None, None)
            assert hero.add.options(timeout=np.float32(20))(1) == 3
    finally:
        heros.limits.call_timeout.cache_clear()


def test_oneway(setup):
    hero = setup.proxy()
    for number in range(50):
        hero.take.oneway(number)
    wait_until(lambda: hero.taken() == list(range(50)), what="fifty calls, in order")


def test_events_arrive_in_order(setup):
    hero = setup.proxy()
    got: list[int] = []
    name = hero.tick.connect(got.append)
    assert hero.tick.is_callback(got.append)
    assert [each["name"] for each in hero.tick.get_callbacks()] == [name]
    hero.fire(500)
    wait_until(lambda: len(got) + hero.tick.missed == 500, what=lambda: f"{len(got)} + {hero.tick.missed} of 500")
    assert got == sorted(set(got))
    assert hero.tick.disconnect(got.append)
    assert not hero.tick.disconnect(got.append)
    hero.fire(10)
    assert hero.add(1) == 3
    assert not got or got[-1] < 500


def test_a_slow_callback_loses_samples_and_the_count_is_exact(setup):
    hero = setup.proxy()
    got: list[int] = []
    go = threading.Event()

    def slow(number: int) -> None:
        go.wait(30)
        got.append(number)

    hero.tick.connect(slow)
    count = 3 * heros.limits.EVENT_WINDOW
    hero.fire(count)
    wait_until(lambda: hero.tick.missed > 0, what="the drops to be told")
    go.set()
    wait_until(lambda: len(got) + hero.tick.missed == count, what=lambda: f"{len(got)} + {hero.tick.missed} of {count}")
    assert got == sorted(set(got))


def test_a_reliable_event_loses_nothing(setup):
    hero = setup.proxy()
    got: list[int] = []
    hero.surely.connect(got.append)
    count = 3 * heros.limits.EVENT_WINDOW
    hero.fire_reliably(count)
    wait_until(lambda: len(got) == count, what=lambda: f"{len(got)} of {count}")
    assert got == list(range(count))
    assert hero.surely.missed == 0


def test_a_kept_value_comes_first(setup):
    hero = setup.proxy()
    late: list[str] = []
    for state in ("off", "on"):
        hero.set_state(state)
    hero.state.connect(late.append)
    wait_until(lambda: late == ["on"], what=lambda: str(late))
    assert hero.state.missed == 0


def test_a_callback_that_fails_stays_connected(setup, caplog):
    hero = setup.proxy()
    got: list[int] = []

    def failing(number: int) -> None:
        got.append(number)
        raise RuntimeError("on purpose")

    hero.surely.connect(failing)
    hero.fire_reliably(3)
    wait_until(lambda: got == [0, 1, 2], what=lambda: str(got))


def test_a_callback_may_disconnect_itself(setup):
    hero = setup.proxy()
    got: list[int] = []

    def once(number: int) -> None:
        got.append(number)
        hero.surely.disconnect(once)

    hero.surely.connect(once)
    hero.fire_reliably(3)
    wait_until(lambda: got, what="the callback")
    assert hero.add(1) == 3
    assert got == [0]


def test_a_remote_method_is_attached_at_the_owner(setup):
    one, two = setup.proxy("one"), setup.proxy("two")
    name = one.tick.connect(two.take)
    assert name == "two.take"
    (told,) = one.tick.get_callbacks()
    assert (told["name"], told["context"], told["is_remote_hero"]) == ("two.take", "LocalHERO", True)
    one.fire(100)
    wait_until(lambda: two.taken() == list(range(100)), what="a hundred calls, in order")
    assert one.tick.disconnect(two.take)
    one.fire(1)
    assert two.taken() == list(range(100))


def test_a_proxy_is_pickled_as_a_reference(setup):
    hero = setup.proxy()
    again = pickle.loads(pickle.dumps(hero))
    assert again == hero
    assert again.add(1) == 3
    assert pickle.loads(pickle.dumps(hero.add))(1) == 3


def test_there_is_no_such_hero(setup):
    with pytest.raises(NameError, match="nobody"):
        heros.RemoteHERO("nobody", setup.realm)
    with pytest.raises(HEROUnavailable, match=r"waited 0\.05 s"):
        heros.RemoteHERO("nobody", setup.realm, wait=0.05)


@pytest.mark.parametrize("name", ["", "a/b", "*", "a$*", "#", "what?", "@x"])
def test_impossible_names(name):
    with pytest.raises(ValueError, match="cannot name"):
        heros.RemoteHERO(name)
    with pytest.raises(ValueError, match="cannot name"):
        heros.LocalHERO(name)
    with pytest.raises(ValueError, match="cannot name"):
        heros.RemoteHERO("x", realm=name)


# -- the server's death ---------------------------------------------------------------------------------------


@pytest.fixture
def served(setup):
    if setup.child is None:
        pytest.skip("this process cannot outlive itself")
    return setup


def test_a_server_that_is_killed_ends_the_call(served):
    hero = served.proxy()
    failures: list[BaseException] = []

    def call() -> None:
        try:
            hero.wait()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert hero.wait_until_busy()
    served.child.kill9()
    thread.join(10)
    assert [type(error) for error in failures] == [PeerLost]
    assert "one/wait" in str(failures[0])
    with pytest.raises(HEROUnavailable):
        hero.add(1)


def test_a_server_that_exits_in_a_call_ends_it(served):
    with pytest.raises(PeerLost):
        served.proxy().die()


def test_proxies_and_events_go_on_with_a_restarted_server(served):
    hero = served.proxy()
    got: list[int] = []
    hero.surely.connect(got.append)
    served.child.kill9()
    with Child(LAB, served.realm, env=dict(os.environ) if served.transport == "shm" else second(served)) as child:
        child.ready()
        wait_until(lambda: responds(hero), what="the proxy to find the new server")
        wait_until(lambda: hero.surely._subscription.attached, what="the subscription to be back")
        hero.fire_reliably(3)
        wait_until(lambda: got == [0, 1, 2], what=lambda: str(got))


def second(served: Setup) -> dict[str, str]:
    return {"HEROS_ZENOH_CONFIG": zenoh_config(int(os.environ["HEROS_TEST_PORT"]), listen=False)}


def responds(hero: heros.RemoteHERO) -> bool:
    try:
        return bool(hero.add(1) == 3)
    except (HEROUnavailable, PeerLost):
        return False
