"""What a class offers to others, and what is taken from others as a description of that."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable as AbcCallable
from enum import IntEnum
from typing import Annotated, Any, Callable, ClassVar  # noqa: UP035 - both spellings are in use
from unittest.mock import MagicMock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heros.capabilities import (
    UNDEFINED,
    AttributeCapability,
    Capability,
    EventCapability,
    MethodCapability,
    Parameter,
    from_list,
    usable_name,
)
from heros.exceptions import DecodeError
from heros.inspect import (
    event_keep,
    force_remote,
    is_force_remote,
    is_hero_event,
    is_hero_method,
    is_local_only,
    is_reliable,
    local_only,
    mark_event_keep,
    mark_hero_event,
    mark_hero_method,
    mark_reliable,
)
from heros.introspection import collect, type_to_str
from heros.metadata import Metadata, package_versions


class Base:
    """Stands for LocalHERO: its own members are not offered, but for the one that is marked."""

    capabilities: list[str]

    def _destroy_hero(self) -> None: ...

    def withdraw(self) -> None: ...

    @force_remote
    def _connect(self, event: str) -> str: ...


OWN = frozenset(vars(Base)) | frozenset(inspect.get_annotations(Base))


class Mixin:
    inherited: int

    def mixed_in(self) -> None: ...

    def replaced(self) -> None: ...


class Device(Base, Mixin):
    """A device."""

    annotated: float
    unresolvable: NoSuchType  # type: ignore[name-defined] # noqa: F821
    constant: ClassVar[int] = 3
    number = 4.0
    listed = [1]  # noqa: RUF012
    hook: Callable
    other_hook: AbcCallable[[int], int] | None = None
    quoted_hook: "typing.Callable[[int], int]"  # noqa: UP037
    class_hook: ClassVar[Callable[[], None]]
    builtin: Callable = print
    _private: int = 3
    replaced = 7
    partial = functools.partial(int, base=2)
    Nested = type("Nested", (), {})
    either = lambda self, q: q  # noqa: E731
    mock = MagicMock()

    def move(self, x: int, /, y: float = 0.5, *rest: int, z: str | None = None, **more: Any) -> bool:
        """Move it."""
        return True

    moved_to_3 = functools.partialmethod(move, 3)

    def _hidden(self) -> None: ...

    @force_remote
    def _shown(self) -> None: ...

    def __call__(self) -> None: ...

    @force_remote
    def __mangled(self) -> None: ...

    @local_only
    def local(self) -> None: ...

    @property
    @local_only
    def local_property(self) -> int: ...

    @staticmethod
    def static(x: int) -> None: ...

    @classmethod
    def of_class(cls, x: int) -> None: ...

    @property
    def read(self) -> int:
        """A reading."""
        raise AssertionError("describing a class reads no property")

    @property
    def write(self) -> list[int]: ...

    @write.setter
    def write(self, value: list[int]) -> None: ...

    @property
    def bare(self): ...

    @functools.cached_property
    def cached(self) -> str: ...

    @property
    def gives_callable(self) -> Callable[[int], int]: ...

    @functools.lru_cache  # noqa: B019
    def memo(self, key: str) -> int: ...

    @functools.singledispatchmethod
    def dispatched(self, value: int) -> None: ...

    async def awaited(self, x: int) -> int: ...

    @mark_hero_event
    def data(self) -> float:
        """The data."""

    @mark_reliable
    @mark_hero_event
    def frames(self) -> float: ...


mark_event_keep(Device.frames, 2)


@pytest.fixture(scope="module")
def offered() -> dict[str, Capability]:
    return {capability.name: capability for capability in collect(Device, OWN)}


def test_collect_offers_these_and_no_others(offered: dict[str, Capability]) -> None:
    events = {"data", "frames"}
    attributes = {
        *("annotated", "unresolvable", "constant", "number", "listed", "other_hook", "inherited", "replaced"),
        *("read", "write", "bare", "cached"),
    }
    methods = {
        *("_connect", "_shown", "_Device__mangled", "mixed_in", "move", "moved_to_3", "static", "of_class", "memo"),
        *("dispatched", "awaited", "hook", "quoted_hook", "class_hook", "builtin", "partial", "Nested", "either"),
        *("gives_callable", "mock"),
    }
    by_flavor = {
        kind: {name for name, capability in offered.items() if type(capability) is kind}
        for kind in (EventCapability, AttributeCapability, MethodCapability)
    }
    assert by_flavor[EventCapability] == events
    assert by_flavor[AttributeCapability] == attributes
    assert by_flavor[MethodCapability] == methods


def test_collect_has_a_stable_order() -> None:
    names = [capability.name for capability in collect(Device, OWN)]
    assert names == sorted(names)
    assert names == [capability.name for capability in collect(Device, OWN)]


def test_mixin_order_does_not_matter() -> None:
    class Turned(Mixin, Base):
        x: int

    class Straight(Base, Mixin):
        x: int

    assert collect(Turned, OWN) == collect(Straight, OWN)


def test_an_override_decides_about_its_marks() -> None:
    class Parent:
        @local_only
        def hidden(self) -> None: ...

        def shown(self) -> None: ...

    class Child(Parent):
        def hidden(self) -> None: ...

        @local_only
        def shown(self) -> None: ...

    assert [capability.name for capability in collect(Child)] == ["hidden"]


def test_what_has_its_object_already_loses_no_parameter() -> None:
    class Lent:
        bound = Device.of_class

        def anything(*args: int) -> None: ...

    assert [str(capability.signature()) for capability in collect(Lent)] == [  # type: ignore[attr-defined]
        "(*args: 'int')",
        "(x: 'int')",
    ]


def test_what_has_no_signature_is_described_all_the_same() -> None:
    class Odd:
        a = property(min)
        b = property(fset=lambda self, value: None)
        c = min
        d = type

    a, b, c, d = collect(Odd)
    assert (a, b) == (AttributeCapability("a", UNDEFINED, "r", inspect.getdoc(min)), AttributeCapability("b"))
    assert [str(method.signature()) for method in (c, d)] == ["(*args, **kwargs)"] * 2  # type: ignore[attr-defined]


def test_slots_are_attributes() -> None:
    class Slotted:
        __slots__ = ("x",)
        x: int

    assert collect(Slotted) == [AttributeCapability("x", "int")]


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("move", "(x: 'int', /, y: 'float' = 0.5, *rest: 'int', z: 'str | None' = None, **more: 'Any') -> 'bool'"),
        ("moved_to_3", "(y: 'float' = 0.5, *rest: 'int', z: 'str | None' = None, **more: 'Any') -> 'bool'"),
        ("static", "(x: 'int')"),
        ("of_class", "(x: 'int')"),
        ("memo", "(key: 'str') -> 'int'"),
        ("dispatched", "(value: 'int')"),
        ("awaited", "(x: 'int') -> 'int'"),
        ("either", "(q)"),
        ("partial", "(*args, **kwargs)"),
        ("hook", "(*args, **kwargs)"),
        ("Nested", "()"),
        ("_connect", "(event: 'str') -> 'str'"),
    ],
)
def test_signatures(offered: dict[str, Capability], name: str, signature: str) -> None:
    method = offered[name]
    assert isinstance(method, MethodCapability)
    assert str(method.signature()) == signature
    assert str(MethodCapability.from_dict(method.to_dict()).signature()) == signature


@pytest.mark.parametrize(
    ("name", "kind", "access"),
    [
        ("annotated", "float", "rw"),
        ("unresolvable", "NoSuchType", "rw"),
        ("number", "float", "rw"),
        ("listed", "list", "rw"),
        ("inherited", "int", "rw"),
        ("read", "int", "r"),
        ("write", "list[int]", "rw"),
        ("bare", UNDEFINED, "r"),
        ("cached", "str", "rw"),
    ],
)
def test_attributes(offered: dict[str, Capability], name: str, kind: str, access: str) -> None:
    attribute = offered[name]
    assert isinstance(attribute, AttributeCapability)
    assert (attribute.type, attribute.access) == (kind, access)


def test_docs_and_event_options(offered: dict[str, Capability]) -> None:
    assert offered["move"].doc == "Move it."  # type: ignore[attr-defined]
    assert offered["read"].doc == "A reading."  # type: ignore[attr-defined]
    assert offered["data"] == EventCapability("data", "The data.", reliable=False, keep=0)
    assert offered["frames"] == EventCapability("frames", "", reliable=True, keep=2)


# -- the maps -------------------------------------------------------------------------------------------------


def test_to_dict_is_the_map_of_protocol_1_0_and_more() -> None:
    class Dev:
        x: int

        def add(self, a: int, b: int = 2) -> int: ...

        @mark_hero_event
        def data(self) -> int: ...

    add, data, x = [capability.to_dict() for capability in collect(Dev)]
    assert add == {
        "name": "add",
        "flavor": "method",
        "parameters": [
            {"name": "a", "type": "int", "default": "undefined", "kind": 1},
            {"name": "b", "type": "int", "default": 2, "kind": 1},
        ],
        "return_type": "int",
        "doc": "",
    }
    assert data == {"name": "data", "flavor": "event", "doc": "", "reliable": False, "keep": 0}
    assert x == {"name": "x", "flavor": "attribute", "type": "int", "access": "rw", "doc": ""}
    assert type(add["parameters"][0]["kind"]) is int


def test_capabilities_survive_the_way_there_and_back() -> None:
    capabilities = collect(Device, OWN)
    assert from_list([capability.to_dict() for capability in capabilities]) == capabilities


def test_maps_of_the_original_are_understood() -> None:
    method = {
        "name": "_connect_local_hero_callback",
        "flavor": "method",
        "parameters": [
            {"name": "event", "type": "function", "default": "undefined", "kind": 1},
            {"name": "origin", "type": "str | None", "default": None, "kind": 1},
        ],
        "return_type": "str",
    }
    assert str(from_list([method])[0].signature()) == (  # type: ignore[attr-defined]
        "(event: 'function', origin: 'str | None' = None) -> 'str'"
    )
    assert from_list([{"name": "e", "flavor": "event"}]) == [EventCapability("e")]
    assert from_list([{"name": "a", "flavor": "attribute", "type": "int", "access": "rw"}]) == [
        AttributeCapability("a", "int")
    ]


class Mode(IntEnum):
    FAST = 1


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def described(function: AbcCallable[..., object]) -> MethodCapability:
    (capability,) = collect(type("Holder", (), {"method": staticmethod(function)}))
    assert isinstance(capability, MethodCapability)
    return capability


@pytest.mark.parametrize("default", [None, True, 3, -(2**63), 1.5, "text", b"raw", [1, "a", None]])
def test_plain_defaults_travel(default: object) -> None:
    def method(x=default): ...

    (parameter,) = described(method).parameters
    assert parameter.to_dict() == {"name": "x", "type": "undefined", "default": default, "kind": 1}


@pytest.mark.parametrize(
    ("default", "shown"),
    [
        (object, "<class 'object'>"),
        ((1, 2), "(1, 2)"),
        ("undefined", "'undefined'"),
        (Mode.FAST, "<Mode.FAST: 1>"),
        (np.float64(1.5), repr(np.float64(1.5))),
        (2**64, "18446744073709551616"),
        (Unprintable(), "<Unprintable>"),
        ([[1]], "[[1]]"),
        ("x" * 500, "'" + "x" * 196 + "..."),
    ],
)
def test_other_defaults_are_shown_as_text(default: object, shown: str) -> None:
    def method(x=default): ...

    method_capability = described(method)
    fields = method_capability.to_dict()["parameters"][0]
    assert fields["default"] == shown
    assert fields["opaque"] is True
    assert str(MethodCapability.from_dict(method_capability.to_dict()).signature()) == f"(x={shown})"


def test_undefined_behind_a_default_is_a_text() -> None:
    fields = [
        {"name": "a", "type": "int", "default": 1, "kind": 1},
        {"name": "b", "type": "str", "default": "undefined", "kind": 1},
    ]
    method = MethodCapability.from_dict({"name": "m", "flavor": "method", "parameters": fields, "return_type": "None"})
    assert str(method.signature()) == "(a: 'int' = 1, b: 'str' = 'undefined')"


def test_a_default_may_be_anything_the_codec_yields() -> None:
    fields = {"name": "a", "type": "int", "default": np.zeros(3), "kind": 1}
    assert Parameter.from_dict(fields).has_default()


PARAMETER = {"name": "x", "type": "int", "default": "undefined", "kind": 1}


def a_method(**changes: object) -> dict[str, object]:
    return {"name": "m", "flavor": "method", "parameters": [PARAMETER | changes], "return_type": "None"}


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        "event",
        {},
        {"name": "a"},
        {"flavor": "event"},
        {"name": "a", "flavor": "thing"},
        {"name": "a", "flavor": ["event"]},
        {"name": 3, "flavor": "event"},
        {"name": "a" * 201, "flavor": "event"},
        {"name": "a", "flavor": "event", "reliable": 1},
        {"name": "a", "flavor": "event", "keep": -1},
        {"name": "a", "flavor": "event", "keep": True},
        {"name": "a", "flavor": "event", "doc": None},
        {"name": "a", "flavor": "event", "doc": "x" * 70_000},
        {"name": "a", "flavor": "attribute", "type": 3, "access": "rw"},
        {"name": "a", "flavor": "attribute", "type": "int", "access": "x"},
        {"name": "m", "flavor": "method"},
        {"name": "m", "flavor": "method", "parameters": {}},
        {"name": "m", "flavor": "method", "parameters": [None]},
        {"name": "m", "flavor": "method", "parameters": [PARAMETER, PARAMETER]},
        {"name": "m", "flavor": "method", "parameters": [PARAMETER] * 1000},
        a_method(kind=5),
        a_method(kind="1"),
        a_method(name="not an identifier"),
        a_method(name="class"),
        a_method(kind=2, default=1),
        a_method(opaque=True, default=3),
        a_method(opaque="yes"),
    ],
)
def test_malformed_maps(fields: object) -> None:
    with pytest.raises(DecodeError):
        Capability.from_dict(fields)


@pytest.mark.parametrize("members", [None, {}, [{}], [{"name": "a", "flavor": "event"}] * 2, [None] * 20_000])
def test_malformed_lists(members: object) -> None:
    with pytest.raises(DecodeError):
        from_list(members)


KEYS = ["name", "flavor", "type", "access", "doc", "reliable", "keep", "parameters", "return_type", "default", "kind"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["event", "method", "attribute"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
)


@given(VALUES | st.fixed_dictionaries({"name": st.text(), "flavor": st.sampled_from(["event", "method", "attribute"])}))
def test_whatever_the_map_a_capability_or_a_decode_error(fields: object) -> None:
    try:
        capability = Capability.from_dict(fields)
    except DecodeError:
        return
    assert Capability.from_dict(capability.to_dict()) == capability


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        *[(name, True) for name in ("move", "_shown", "_connect_local_hero_callback", "größe", "x2")],
        *[
            (name, False)
            for name in ("__class__", "__x", "_destroy_hero", "_hero_tags", "", "a b", "a/b", "2x", "x" * 201)
        ],
    ],
)
def test_usable_name(name: str, usable: bool) -> None:
    assert usable_name(name) is usable


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        ("int | NoSuch", "int | NoSuch"),
        (list[int], "list[int]"),
        (typing.Optional[int], "int | None"),  # noqa: UP045
        (int | None, "int | None"),
        (None, "None"),
        (typing.Callable, "Callable"),
        (AbcCallable[[int], str], "Callable[[int], str]"),
        (typing.Literal["a", 2], "Literal['a', 2]"),
        (Any, "Any"),
        (np.ndarray, "ndarray"),
        (inspect.Parameter.empty, "undefined"),
        (Unprintable(), "<Unprintable>"),
    ],
)
def test_type_to_str(annotation: object, text: str) -> None:
    assert type_to_str(annotation) == text


@pytest.mark.parametrize(
    ("annotation", "is_method"),
    [
        (Callable, True),
        (AbcCallable, True),
        (Callable[[int], int], True),
        (ClassVar[Callable[[], None]], True),
        (Annotated[Callable[[], None], "x"], True),
        ("Callable", True),
        ("t.Callable[[int], NoSuch]", True),
        ("ClassVar[Callable[[], None]]", True),
        ("Annotated[Callable, 1]", True),
        ("Callable | None", False),
        ("list[Callable]", False),
        ("NotCallable", False),
        ("(", False),
        ("ClassVar[()]", False),
        ("", False),
        (int, False),
        (np.zeros(2), False),
    ],
)
def test_annotated_as_callable_is_a_method(annotation: object, is_method: bool) -> None:
    cls = type("Cls", (), {"__annotations__": {"x": annotation}})
    (capability,) = collect(cls)
    assert isinstance(capability, MethodCapability) is is_method


# -- marks and metadata ---------------------------------------------------------------------------------------


def test_marks_are_found_through_decorators_in_either_order() -> None:
    class Marked:
        @local_only
        @property
        def above_property(self) -> None: ...

        @property
        @local_only
        def below_property(self) -> None: ...

        @local_only
        @staticmethod
        def above_static() -> None: ...

        @classmethod
        @local_only
        def below_class(cls) -> None: ...

        @local_only
        @functools.cached_property
        def above_cached(self) -> None: ...

        @functools.lru_cache  # noqa: B019
        @local_only
        def below_cache(self) -> None: ...

    members = {name: value for name, value in vars(Marked).items() if not name.startswith("_")}
    assert len(members) == 6
    for name, member in members.items():
        assert is_local_only(member), name
        assert not is_force_remote(member), name
    assert is_local_only(Marked().below_class)
    assert not is_local_only(Marked)


def test_each_mark_is_its_own() -> None:
    def member() -> None: ...

    assert not any(question(member) for question in (is_hero_event, is_hero_method, is_reliable, event_keep))
    assert mark_hero_event(member) is member
    assert is_hero_event(member)
    assert not is_reliable(member)
    assert is_reliable(mark_reliable(member))
    assert not is_hero_method(member)
    assert is_hero_method(mark_hero_method(member))
    assert event_keep(mark_event_keep(member, 3)) == 3


def test_an_object_that_answers_to_every_name_is_not_marked() -> None:
    assert not is_local_only(MagicMock())
    assert not is_hero_event(MagicMock())


def test_an_object_that_wraps_itself_is_not_followed_for_ever() -> None:
    def member() -> None: ...

    member.__wrapped__ = member  # type: ignore[attr-defined]
    assert not is_local_only(member)


@pytest.mark.parametrize("value", [3, "text", None, len])
def test_what_cannot_be_marked(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be marked"):
        local_only(value)


def test_package_versions() -> None:
    versions = package_versions()
    assert list(versions) == ["heros", "boss", "herosdevices", "herostools", "atomiq"]
    assert all(isinstance(version, str) and version for version in versions.values())


class Tagged:
    _hero_implements = ("of.Class",)
    _hero_tags = ["class"]  # noqa: RUF012
    _hero_extra_metadata = {"both": "class", "class": "1"}  # noqa: RUF012


def test_metadata_of_class_and_constructor_are_joined() -> None:
    implements, tags, extra = ["ctor", "of.Class"], {"ctor"}, {"both": "ctor", "ctor": "2"}
    metadata = Metadata.of(Tagged, implements, tags, extra)
    assert metadata.implements == ("ctor", "of.Class")
    assert metadata.tags == ("ctor", "class", "_proto_version:1.0")
    assert json.loads(metadata.extra_metadata["pkg_versions"]) == package_versions()
    assert {k: v for k, v in metadata.extra_metadata.items() if k != "pkg_versions"} == {
        "both": "class",
        "class": "1",
        "ctor": "2",
    }
    assert (implements, tags, extra) == (["ctor", "of.Class"], {"ctor"}, {"both": "ctor", "ctor": "2"})
    assert Tagged._hero_extra_metadata == {"both": "class", "class": "1"}
    assert Tagged._hero_tags == ["class"]


def test_metadata_without_any() -> None:
    metadata = Metadata.of(object)
    assert metadata.implements == ()
    assert metadata.tags == ("_proto_version:1.0",)
    assert list(metadata.extra_metadata) == ["pkg_versions"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"implements": "abc"},
        {"implements": [3]},
        {"implements": 3},
        {"tags": {"a": "b"}},
        {"tags": b"abc"},
        {"extra_metadata": {"a": 1}},
        {"extra_metadata": {1: "a"}},
        {"extra_metadata": ["a"]},
    ],
)
def test_metadata_of_wrong_types(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(arguments))):
        Metadata.of(object, **arguments)
