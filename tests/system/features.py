"""Every feature that programs written for HEROS use, as a HERO that has it and a program that uses it.

The same text runs with the original package and with this one, in either role: this file is the program of both
processes. ``features.py offer REALM`` makes the HEROs of a feature when it is told so, ``features.py use REALM`` uses
them; see ``test_matrix.py``. What a program checks here must be so with both packages.
"""

import asyncio
import dataclasses
import datetime
import decimal
import faulthandler
import inspect
import json
import os
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from heros import (
    DatasourceObserver,
    DatasourceReturnSet,
    EventObserver,
    HEROObserver,
    HEROPeer,
    LocalDatasourceHERO,
    LocalHERO,
    PolledLocalDatasourceHERO,
    RemoteHERO,
    __version__,
    event,
)
from heros.event import reliable
from heros.exceptions import RemoteHEROError
from heros.inspect import force_remote, local_only

SECONDS = 30.0
FEATURES: dict[str, "Feature"] = {}


@dataclasses.dataclass
class Feature:
    """What one row of the matrix is about.

    Attributes:
        key: its short name.
        title: the row's text.
        offer: makes its HEROs, given the realm; they end after the test.
        use: the program that uses them, given the realm; it fails by an exception.
    """

    key: str
    title: str
    offer: Callable[[str], Any]
    use: Callable[[str], None]


def feature(title: str, offer: Callable[[str], Any]) -> Callable[[Callable[[str], None]], None]:
    """Make a row of the matrix of the decorated program; its name is the feature's."""

    def make(use: Callable[[str], None]) -> None:
        FEATURES[use.__name__] = Feature(use.__name__, title, offer, use)

    return make


# -- what the programs share ----------------------------------------------------------------------------------


def until(condition: Callable[[], object], act: Callable[[], object] = lambda: None) -> None:
    """Wait until it is so, doing something again and again meanwhile."""
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            faulthandler.dump_traceback()  # the test shows it
            raise AssertionError("waited in vain")
        act()
        time.sleep(0.02)


def proxy(name: str, realm: str) -> Any:
    """A RemoteHERO, as soon as the two processes have found each other."""
    found: list[Any] = []

    def look() -> bool:
        try:
            found.append(RemoteHERO(name, realm=realm))
        except NameError:
            return False
        return True

    until(look)
    return found[0]


def raised(kind: type[BaseException], act: Callable[[], object]) -> Any:
    """The exception of that kind which ``act`` must raise."""
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def same(actual: object, expected: object) -> None:
    assert actual == expected, f"{actual!r} is not {expected!r}"
    assert type(actual) is type(expected), f"{actual!r} is no {type(expected).__name__}"


class Sink(LocalHERO):
    """Of the process that uses: what methods of HEROs of the other one call."""

    def __init__(self, name: str, realm: str) -> None:
        self.taken: list[Any] = []
        super().__init__(name, realm=realm)

    def take(self, value):
        self.taken.append(value)
        return "taken"


# -- members --------------------------------------------------------------------------------------------------


class Members(LocalHERO):
    number: int = 3
    declared: float
    name: str = "text"
    handler: Callable[[int], int]

    def __init__(self, name: str, realm: str) -> None:
        self.handler = lambda value: value + 1
        super().__init__(name, realm=realm)

    def add(self, a: int, b: int = 2, *, c: int = 0) -> int:
        return a + b + c

    def collect(self, first, *rest, **named):
        return [first, list(rest), named]

    def positional(self, a, b=5, /):
        return [a, b]

    def nothing(self) -> None:
        pass

    @staticmethod
    def static(a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int) -> int:
        return a

    @property
    def gain(self) -> float:
        return getattr(self, "_gain", 1.0)

    @gain.setter
    def gain(self, value: float) -> None:
        if value < 0:
            raise ValueError(f"{value} is negative")
        self._gain = value

    @property
    def serial(self) -> str:
        return "S-1"

    @local_only
    def secret(self):
        return "secret"

    @force_remote
    def _calibrate(self, value: int) -> int:
        return value * 2

    def _private(self):
        return "private"


@feature("methods: positional and keyword arguments, defaults, results", lambda realm: Members("members", realm))
def methods(realm: str) -> None:
    hero = proxy("members", realm)
    same(hero.add(1), 3)
    same(hero.add(1, 1), 2)
    same(hero.add(1, b=4, c=5), 10)
    same(hero.add(a=1), 3)
    same(hero.nothing(), None)
    same(hero.static(4), 4)
    same(hero.of_class(5), 5)
    same(hero.handler(6), 7)
    raised(TypeError, lambda: hero.add())
    raised(TypeError, lambda: hero.add(1, d=2))


@feature("methods with `*args`, `**kwargs` and positional-only parameters", lambda realm: Members("members", realm))
def varargs(realm: str) -> None:
    hero = proxy("members", realm)
    same(hero.collect(1), [1, [], {}])
    same(hero.collect(1, 2, 3, a=4, b=[5]), [1, [2, 3], {"a": 4, "b": [5]}])
    same(hero.positional(1), [1, 5])
    same(hero.positional(1, 2), [1, 2])
    raised(TypeError, lambda: hero.positional(1, b=2))


@feature("attributes: read and write", lambda realm: Members("members", realm))
def attributes(realm: str) -> None:
    hero = proxy("members", realm)
    same(hero.number, 3)
    hero.number = 4
    same(hero.number, 4)
    same(hero.declared, None)
    hero.declared = 2.5
    same(hero.declared, 2.5)
    hero.name = "other"
    same(proxy("members", realm).name, "other")
    same(hero.gain, 1.0)
    hero.gain = 3.0
    same(hero.gain, 3.0)
    same(hero.serial, "S-1")
    raised(AttributeError, lambda: setattr(hero, "serial", "S-2"))
    raised(AttributeError, lambda: hero.no_such_member)


@feature("exceptions of property setters", lambda realm: Members("members", realm))
def setters(realm: str) -> None:
    hero = proxy("members", realm)
    error = raised(ValueError, lambda: setattr(hero, "gain", -1.0))
    assert isinstance(error, RemoteHEROError)
    same(error.message, "-1.0 is negative")
    same(hero.gain, 1.0)


@feature("`@force_remote`, `@local_only`, private members", lambda realm: Members("members", realm))
def marks(realm: str) -> None:
    hero = proxy("members", realm)
    same(hero._calibrate(4), 8)
    assert not hasattr(hero, "secret")
    assert not hasattr(hero, "_private")


class Device:
    """No HERO by itself, as BOSS gets it."""

    exposure: float = 0.1

    def __init__(self, exposure: float) -> None:
        self.exposure = exposure
        super().__init__()

    def expose(self) -> float:
        return self.exposure


class Between:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...


class Shared(Device, Between, LocalHERO):
    def __init__(self, realm: str) -> None:
        Device.__init__(self, 0.5)
        LocalHERO.__init__(self, "shared", realm=realm)


@feature("a class that is shared by a mixin, as BOSS does", Shared)
def mixin(realm: str) -> None:
    hero = proxy("shared", realm)
    same(hero.expose(), 0.5)
    hero.exposure = 0.25
    same(hero.expose(), 0.25)


@feature("capabilities", lambda realm: Members("members", realm))
def capabilities(realm: str) -> None:
    hero = proxy("members", realm)
    found = {each.name: each for each in hero._get_capabilities()}
    public = {"add", "collect", "declared", "gain", "handler", "name", "nothing", "number", "of_class", "positional"}
    same({name for name in found if not name.startswith("_")}, public | {"serial", "static"})
    flavors = {name: found[name].flavor for name in ("add", "number", "gain", "handler")}
    same(flavors, {"add": "method", "number": "attribute", "gain": "attribute", "handler": "method"})
    same(found["number"].type, "int")
    same([each.name for each in found["add"].parameters], ["a", "b", "c"])
    same([int(each.kind) for each in found["collect"].parameters], [1, 2, 4])
    same(found["add"].return_type, "int")


@feature("signatures", lambda realm: Members("members", realm))
def signatures(realm: str) -> None:
    hero = proxy("members", realm)
    signature = inspect.signature(hero.add)
    same(str(signature.replace(return_annotation=inspect.Signature.empty)), "(a: 'int', b: 'int' = 2, *, c: 'int' = 0)")
    same(str(signature.return_annotation), "int")
    parameters = inspect.signature(hero.collect).parameters.values()
    same([str(each) for each in parameters], ["first", "*rest", "**named"])
    same(hero.add.__name__, "add")


@feature("equal and hashable proxies", lambda realm: [Members("members", realm), Members("others", realm)])
def equality(realm: str) -> None:
    one, two, other = proxy("members", realm), proxy("members", realm), proxy("others", realm)
    assert one == two
    assert hash(one) == hash(two)
    assert one != other
    same(len({one, two, other}), 2)


class Described(LocalHERO):
    """Tells who it is."""

    _hero_tags = ["of the class"]
    _hero_implements = ["lab.OfClass"]
    _hero_extra_metadata = {"room": "1"}


@feature(
    "metadata: tags, implements, extra_metadata, package versions",
    lambda realm: Described("described", realm=realm, tags=["t"], implements=["lab.Given"], extra_metadata={"a": "b"}),
)
def metadata(realm: str) -> None:
    hero = proxy("described", realm)
    assert {"t", "of the class", "_proto_version:1.0"} <= hero._hero_tags
    same(hero._hero_implements, {"lab.OfClass", "lab.Given"})
    given = dict(hero._hero_extra_metadata)
    versions = json.loads(given.pop("pkg_versions"))
    same(given, {"a": "b", "room": "1"})
    assert {"heros", "boss", "herosdevices", "herostools", "atomiq"} <= versions.keys()


# -- exceptions -----------------------------------------------------------------------------------------------


class Own(Exception):
    pass


class Failing(LocalHERO):
    def fail(self, name: str, text: str) -> None:
        raise {"ValueError": ValueError, "KeyError": KeyError, "OSError": OSError, "Own": Own}[name](text)


@feature("exceptions: builtin", lambda realm: Failing("failing", realm=realm))
def builtin_exceptions(realm: str) -> None:
    hero = proxy("failing", realm)
    error = raised(ValueError, lambda: hero.fail("ValueError", "the text"))
    assert isinstance(error, RemoteHEROError)
    same([error.message, error.remote_type], ["the text", "ValueError"])
    assert "fail" in error.remote_traceback
    assert "failing" in error.endpoint
    raised(KeyError, lambda: hero.fail("KeyError", "key"))
    raised(OSError, lambda: hero.fail("OSError", "gone"))
    raised(ValueError, lambda: hero.fail("ValueError", "still there"))


@feature("exceptions: of one's own class", lambda realm: Failing("failing", realm=realm))
def custom_exceptions(realm: str) -> None:
    error = raised(RemoteHEROError, lambda: proxy("failing", realm).fail("Own", "the text"))
    same([error.message, error.remote_type], ["the text", "Own"])
    assert "the text" in str(error)


# -- values ---------------------------------------------------------------------------------------------------


class Echo(LocalHERO):
    def __init__(self, realm: str) -> None:
        super().__init__("echo", realm=realm)
        self.opaque = Opaque()
        self.sent: list[Any] = []

    def echo(self, value):
        return value

    def kind(self, value) -> str:
        return type(value).__name__

    def describe(self, array) -> list:
        return [str(array.dtype), list(array.shape), float(abs(array).sum())]

    def publish(self, name: str) -> None:
        self.happened(ARRAYS[name])

    @event
    def happened(self, value):
        return value

    def give(self):
        return self.opaque

    def is_it(self, value) -> bool:
        return value is self.opaque


class Opaque:
    """Has no serialised form."""

    def __str__(self) -> str:
        return "an opaque one"


ARRAYS = {
    "image": np.arange(480 * 640, dtype=np.uint16).reshape(480, 640),
    "float": np.linspace(0, 1, 7),
    "complex": np.array([1 + 2j]),
    "bool": np.array([[True], [False]]),
    "big endian": np.arange(3, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20)[::3],
    "empty": np.zeros((0, 4)),
    "one": np.array([5], dtype=np.int8),
}


@feature("numpy arrays as argument and result", Echo)
def arrays(realm: str) -> None:
    hero = proxy("echo", realm)
    for array in ARRAYS.values():
        back = hero.echo(array)
        assert isinstance(back, np.ndarray)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
        same(hero.describe(array), [str(array.dtype), list(array.shape), float(abs(array).sum())])
    nested = hero.echo({"images": [ARRAYS["float"], ARRAYS["one"]]})
    np.testing.assert_array_equal(nested["images"][0], ARRAYS["float"])


@feature("numpy arrays in events", Echo)
def arrays_in_events(realm: str) -> None:
    hero = proxy("echo", realm)
    got: list[Any] = []
    hero.happened.connect(got.append)
    for name, array in ARRAYS.items():
        got.clear()
        until(lambda: got, lambda name=name: hero.publish(name))
        assert got[0].dtype == array.dtype
        np.testing.assert_array_equal(got[0], array)


@feature("tuples arrive as lists, sets as sets", Echo)
def tuples_and_sets(realm: str) -> None:
    hero = proxy("echo", realm)
    same(hero.echo((1, (2, 3))), [1, [2, 3]])
    same(hero.kind((1,)), "list")
    same(hero.echo({1, "a"}), {1, "a"})
    same(hero.kind({1}), "set")
    same(hero.echo({"t": (1,)}), {"t": [1]})


@feature("other values: None, numbers, texts, bytes, dicts, dates, decimals, UUIDs", Echo)
def values(realm: str) -> None:
    hero = proxy("echo", realm)
    for value in (
        *(None, True, 0, -1, 2**63, 2**64, -(2**64), 2**200, 1.5, float("inf"), "", "grüße \U0001f600", "x" * 100_000),
        *(b"", b"\x00\xff", b"x" * 200_000, [], {}, [1, [2, [3, {"a": None}]]], {1: "a", "b": {"c": [1.5]}}),
        *(complex(1, -2), decimal.Decimal("1.50"), uuid.UUID(int=5), datetime.date(2026, 1, 2)),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.timezone.utc),  # noqa: UP017
    ):
        same(hero.echo(value), value)
        same(hero.kind(value), type(value).__name__)
    assert np.isnan(hero.echo(float("nan")))
    same(hero.echo(np.int64(4)), 4)


@feature("unserialisable objects, there and back", Echo)
def unserialisable(realm: str) -> None:
    hero = proxy("echo", realm)
    there = hero.give()
    same(type(there).__name__, "UnserializableRemoteObject")
    same([there.type.rpartition(".")[2], there.representation], ["Opaque", "an opaque one"])
    assert isinstance(there.id, int)
    assert hero.is_it(there)
    assert hero.is_it(hero.give())
    mine = Opaque()
    assert hero.echo(mine) is mine
    assert not hero.is_it(mine)
    same(hero.kind(mine), "UnserializableRemoteObject")


# -- HEROs in HEROs -------------------------------------------------------------------------------------------


class Part(LocalHERO):
    level: int = 1

    def who(self) -> str:
        return self._name

    @event
    def tick(self, value):
        return value


class Whole(LocalHERO):
    part: Any

    def __init__(self, realm: str, part: Part) -> None:
        self.part = part
        super().__init__("whole", realm=realm)

    def give(self):
        return self.part

    def give_method(self):
        return RemoteHERO("part", realm=self._realm).who

    def take(self, hero) -> list:
        return [type(hero).__name__.split("_")[0], hero.who(), hero.level]

    def call(self, method, *args):
        return method(*args)


def whole(realm: str) -> list[Any]:
    part = Part("part", realm=realm)
    return [part, Whole(realm, part)]


@feature("a HERO as attribute of a HERO", whole)
def nested_attribute(realm: str) -> None:
    hero = proxy("whole", realm)
    same(hero.part.who(), "part")
    hero.part.level = 5
    same(proxy("part", realm).level, 5)
    assert hero.part == proxy("part", realm)


@feature("a HERO as result", whole)
def nested_result(realm: str) -> None:
    given = proxy("whole", realm).give()
    assert isinstance(given, RemoteHERO)
    same(given.who(), "part")


@feature("a HERO as argument: of the callee's process and of the caller's", whole)
def nested_argument(realm: str) -> None:
    hero = proxy("whole", realm)
    same(hero.take(proxy("part", realm))[1:], ["part", 1])
    mine = Part("mine", realm=realm)
    mine.level = 9
    same(hero.take(mine), ["RemoteHERO", "mine", 9])
    mine._destroy_hero()


@feature("a method of a HERO as argument and as result", whole)
def method_argument(realm: str) -> None:
    hero = proxy("whole", realm)
    same(hero.call(proxy("part", realm).who), "part")
    sink = Sink("sink", realm)
    same(hero.call(proxy("sink", realm).take, 7), "taken")
    same(sink.taken, [7])
    same(hero.give_method()(), "part")
    sink._destroy_hero()


# -- events ---------------------------------------------------------------------------------------------------


class Source(LocalHERO):
    def __init__(self, name: str, realm: str) -> None:
        self.heard: list[Any] = []
        super().__init__(name, realm=realm)

    @event
    def tick(self, value, factor=1):
        return value * factor

    @reliable
    @event
    def surely(self, value):
        return value

    def fire(self, value):
        return self.tick(value, factor=2)

    def fire_surely(self, count: int) -> None:
        for number in range(count):
            self.surely(number)

    def listen(self) -> str:
        return self.tick.connect(self._hear, "itself")

    def stop_listening(self) -> bool:
        return self.tick.disconnect(self._hear)

    def _hear(self, value) -> None:
        self.heard.append(value)

    def what_was_heard(self) -> list:
        return self.heard

    def attach(self, hero, origin=None) -> str:
        return self.tick.connect(hero.take, origin)

    def detach(self, hero) -> bool:
        return self.tick.disconnect(hero.take)

    def who_listens(self) -> list:
        keys = ("origin", "is_remote_hero", "context")
        return [[each[key] for key in keys] for each in self.tick.get_callbacks()]


@feature("event, called by its owner: local event, local callback", lambda realm: Source("source", realm))
def local_to_local(realm: str) -> None:
    hero = proxy("source", realm)
    hero.listen()
    same(hero.who_listens(), [["itself", False, "LocalHERO"]])
    same(hero.fire(4), 8)
    same(hero.what_was_heard(), [8])
    same([hero.stop_listening(), hero.stop_listening()], [True, False])
    hero.fire(5)
    same(hero.what_was_heard(), [8])


@feature("event: local event, method of a RemoteHERO", lambda realm: Source("source", realm))
def local_to_remote(realm: str) -> None:
    hero, sink = proxy("source", realm), Sink("sink", realm)
    same(hero.attach(sink, "me"), "sink.take")
    same(hero.who_listens(), [["me", True, "LocalHERO"]])
    hero.fire(4)
    hero.fire(5)
    until(lambda: len(sink.taken) >= 2)
    same(sink.taken, [8, 10])
    same([hero.detach(sink), hero.detach(sink)], [True, False])
    sink._destroy_hero()


@feature("event: remote event, local callback", lambda realm: Source("source", realm))
def remote_to_local(realm: str) -> None:
    hero = proxy("source", realm)
    got: list[Any] = []
    assert isinstance(hero.tick.connect(got.append), str)
    until(lambda: got, lambda: hero.fire("ab"))
    same(set(got), {"abab"})
    got.clear()
    for number in range(20):
        hero.fire(number)
    until(lambda: 38 in got)
    same([each for each in got if each != "abab"], [2 * number for number in range(20)])


@feature("event: remote event, method of a RemoteHERO, attached at the owner", lambda realm: Source("source", realm))
def remote_to_remote(realm: str) -> None:
    hero, sink = proxy("source", realm), Sink("sink", realm)
    same(hero.tick.connect(proxy("sink", realm).take), "sink.take")
    same(hero.who_listens(), [["source", True, "LocalHERO"]])
    hero.fire(4)
    until(lambda: sink.taken)
    same(sink.taken, [8])
    assert hero.tick.disconnect(proxy("sink", realm).take)
    same(hero.who_listens(), [])
    sink._destroy_hero()


@feature("`get_callbacks`, `is_callback`, `disconnect` of a remote event", lambda realm: Source("source", realm))
def callbacks(realm: str) -> None:
    hero, sink = proxy("source", realm), Sink("sink", realm)
    got: list[Any] = []

    def callback(value) -> None:
        got.append(value)

    name = hero.tick.connect(callback)
    assert hero.tick.is_callback(callback)
    hero.attach(sink)
    here, there = hero.tick.get_callbacks()
    same([here["name"], here["origin"], here["is_remote_hero"], here["context"]], [name, None, False, "RemoteHERO"])
    assert here["func"] is callback
    same([there["name"], there["origin"], there["is_remote_hero"]], ["sink.take", None, True])
    same([there["context"], there["func"].__name__], ["LocalHERO", "take"])
    until(lambda: got, lambda: hero.fire(1))
    same([hero.tick.disconnect(callback), hero.tick.disconnect(callback)], [True, False])
    assert not hero.tick.is_callback(callback)
    same(len(hero.tick.get_callbacks()), 1)
    sink.taken.clear()
    hero.fire(50)
    until(lambda: 100 in sink.taken)  # after it, the other callback would have been called as well
    assert 100 not in got
    assert hero.detach(sink)
    same(hero.tick.get_callbacks(), [])
    sink._destroy_hero()


@feature("`@reliable` events", lambda realm: Source("source", realm))
def reliable_events(realm: str) -> None:
    hero = proxy("source", realm)
    got: list[int] = []
    hero.surely.connect(got.append)
    until(lambda: got, lambda: hero.fire_surely(1))
    until(lambda: len(set(got)) == 1)
    hero.fire_surely(500)
    until(lambda: got and got[-1] == 499)
    same(got[-500:], list(range(500)))


# -- observers ------------------------------------------------------------------------------------------------


class Maker(LocalHERO):
    def __init__(self, realm: str) -> None:
        self.made: dict[str, Any] = {}
        super().__init__("maker", realm=realm)

    def make(self, name: str) -> None:
        self.made[name] = Part(name, realm=self._realm, tags=["made"], implements=["lab.Part"])

    def end(self, name: str) -> None:
        self.made.pop(name)._destroy_hero()

    def tick_of(self, name: str) -> None:
        self.made[name].tick(1)

    def make_within(self, name: str) -> list:
        with Part(name, realm=self._realm) as part:
            return [part.who(), RemoteHERO(name, realm=self._realm).who()]


@feature("HEROObserver: `known_objects`, added, removed, `get_object`", Maker)
def hero_observer(realm: str) -> None:
    maker = proxy("maker", realm)
    observer = HEROObserver(realm=realm)
    assert "maker" in observer.known_objects
    came, went = [], []
    observer.register_object_added_callback(came.append)
    observer.register_object_removed_callback(went.append)
    maker.make("made")
    until(lambda: "made" in came)
    descriptor = observer.known_objects["made"]
    same([descriptor["name"], descriptor["class"], descriptor["proto_version"]], ["made", "Part", 1.0])
    same(descriptor["implements"], {"lab.Part"})
    assert {"made", "_proto_version:1.0"} <= set(descriptor["tags"])
    assert "pkg_versions" in descriptor["extra_metadata"]
    same(observer.get_object("made").who(), "made")
    maker.end("made")
    until(lambda: "made" in went)
    until(lambda: "made" not in observer.known_objects)
    raised(AttributeError, lambda: observer.get_object("made"))


@feature("a HERO that does not exist: `NameError`", lambda realm: Part("there", realm=realm))
def missing(realm: str) -> None:
    proxy("there", realm)
    raised(NameError, lambda: RemoteHERO("not-there", realm=realm))


@feature("a HERO is withdrawn by `with` and `_destroy_hero`, and can be made again", Maker)
def withdrawn(realm: str) -> None:
    maker = proxy("maker", realm)
    same(maker.make_within("within"), ["within", "within"])
    raised(NameError, lambda: RemoteHERO("within", realm=realm))
    maker.make("again")
    same(proxy("again", realm).who(), "again")
    maker.end("again")
    raised(NameError, lambda: RemoteHERO("again", realm=realm))
    maker.make("again")
    same(proxy("again", realm).who(), "again")
    maker.end("again")


@feature("EventObserver of one HERO", lambda realm: [Source("source", realm), Source("other", realm)])
def event_observer(realm: str) -> None:
    source, other = proxy("source", realm), proxy("other", realm)
    got: list[Any] = []
    observer = EventObserver(object_selector="source", event_name="tick", realm=realm)

    def callback(name, value) -> None:
        got.append((name, value))

    uid = observer.register_callback(callback)
    assert isinstance(uid, str)
    assert observer.register_callback(callback) is False
    until(lambda: got, lambda: (other.fire(1), source.fire(2)))
    same(set(got), {("source", 4)})
    assert observer.remove_callback(callback)
    assert not observer.remove_callback(callback)


@feature("EventObserver of all HEROs (`*`), also of those that come later", Maker)
def event_observer_of_all(realm: str) -> None:
    maker = proxy("maker", realm)
    got: list[Any] = []
    observer = EventObserver("*", "tick", realm=realm)
    observer.register_callback(lambda name, value: got.append((name, value)))
    for name in ("first", "second"):
        maker.make(name)
        until(lambda name=name: any(each[0] == name for each in got), lambda name=name: maker.tick_of(name))
    same({name for name, _ in got}, {"first", "second"})
    for name in ("first", "second"):
        maker.end(name)


# -- datasources ----------------------------------------------------------------------------------------------


class Sensor(LocalDatasourceHERO):
    _observables = {"t": {"conversion": "100 * x - 50", "unit": "degC", "boundaries": [[0, 20], [20, 40]]}}

    def measure(self, value: float) -> None:
        self.observable_data({"t": (value, "V"), "plain": 1.5})


@feature("datasource: calibrated observables at a DatasourceObserver", lambda realm: Sensor("sensor", realm=realm))
def datasource(realm: str) -> None:
    sensor = proxy("sensor", realm)
    got: list[Any] = []
    observer = DatasourceObserver("sensor", realm=realm)
    observer.register_callback(lambda name, data: got.append((name, data)))
    until(lambda: got, lambda: sensor.measure(0.75))
    name, data = got[0]
    same(name, "sensor")
    assert isinstance(data, DatasourceReturnSet)
    calibrated = next(each for each in data if each.id == "t")
    same([calibrated.raw_value, calibrated.raw_unit, calibrated.value, calibrated.unit], [0.75, "V", 25.0, "degC"])
    same(calibrated.inbound, 1)
    assert abs(calibrated.time - time.time()) < 600
    plain = next(each for each in data if each.id == "plain")
    same([plain.value, plain.unit, plain.inbound], [1.5, "None", -1])


@feature(
    "DatasourceObserver of all datasources (`*`)",
    lambda realm: [Sensor("one", realm=realm), Sensor("two", realm=realm), Part("no-datasource", realm=realm)],
)
def datasource_observer_of_all(realm: str) -> None:
    sensors = [proxy("one", realm), proxy("two", realm)]
    got: dict[str, Any] = {}
    observer = DatasourceObserver(realm=realm)
    observer.register_observable_data_callback(lambda name, data: got.update({name: data[0].value}))
    until(lambda: len(got) == 2, lambda: [sensor.measure(0.5) for sensor in sensors])
    same(got, {"one": 0.0, "two": 0.0})


class Polled(PolledLocalDatasourceHERO):
    pressure: float = 2.0

    def both(self):
        return [1.0, 3.0]


class PolledByItself(PolledLocalDatasourceHERO):
    asked: int = 0

    def _observable_data(self):
        self.asked += 1
        if self.asked % 2:
            raise RuntimeError("it survives this")
        return {"n": (float(self.asked), "V")}


def polled_sources(realm: str) -> list[Any]:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    observables = {
        "pressure": {"raw_unit": "mbar", "conversion": "x * 100", "unit": "Pa"},
        "item": {"target": "both", "index": 1},
    }
    return [
        Polled("polled", realm=realm, loop=loop, interval=0.05, observables=observables),
        PolledByItself("by-itself", realm=realm, loop=loop, interval=0.05),
    ]


@feature("polled datasource: targets and indices, exceptions survived", polled_sources)
def polled_datasource(realm: str) -> None:
    hero = proxy("polled", realm)
    got: dict[str, list[Any]] = {"polled": [], "by-itself": []}
    observer = DatasourceObserver("*", realm=realm)
    observer.register_callback(lambda name, data: got[name].append(data))
    until(lambda: got["polled"] and len(got["by-itself"]) >= 2)
    values = {each.id: [each.value, each.unit, each.raw_value] for each in got["polled"][0]}
    same(values, {"pressure": [200.0, "Pa", 2.0], "item": [3.0, "", 3.0]})
    hero.pressure = 3.0
    until(lambda: any(each.value == 300.0 for each in got["polled"][-1]))


# -- the two processes ----------------------------------------------------------------------------------------


def destroy(heros: Any) -> None:
    for hero in heros if isinstance(heros, list) else [heros]:
        for part in getattr(hero, "made", {}).values():
            part._destroy_hero()
        hero._destroy_hero()


def main(role: str, realm: str) -> None:
    HEROPeer(realm=realm)  # keeps the session of the original open between two features
    print("READY", __version__, flush=True)
    offered: dict[str, Any] = {}
    for line in sys.stdin:
        order, key = line.split()
        failure = None
        try:
            if order == "offer":
                offered[key] = FEATURES[key].offer(realm)
            elif order == "end":
                destroy(offered.pop(key))
            else:
                FEATURES[key].use(realm)
        except BaseException:
            failure = traceback.format_exc()
        print("DONE", json.dumps(failure), flush=True)
    os._exit(0)  # the original's threads would keep the process


if __name__ == "__main__":
    main(*sys.argv[1:])
