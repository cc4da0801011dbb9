"""Events at their owner: publishing, overriding, and which callbacks are the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from heros.event import Callback, event


class Camera:
    @event
    def frame(self, number: int) -> int:
        """Published for every frame."""
        return number


@dataclass
class Display:
    """Its instances are equal, and look alike, until they have shown a different number of frames."""

    count: int = 0
    shown: list[int] = field(default_factory=list, compare=False, repr=False)

    def show(self, number: int) -> None:
        self.count += 1
        self.shown.append(number)

    def __call__(self, number: int) -> None:
        self.show(number)


class Method:
    """As a method of a RemoteHERO."""

    _is_hero_method = True
    binding = None

    def __init__(self, hero: Any, name: str) -> None:
        self.__self__ = hero
        self.__name__ = name

    def __call__(self, value: object) -> None: ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and (self.__self__, self.__name__) == (other.__self__, other.__name__)

    def __hash__(self) -> int:
        return hash((self.__self__, self.__name__))


@dataclass(frozen=True)
class Hero:
    _realm: str
    _name: str


# -- publishing and overriding --------------------------------------------------------------------------------


def test_an_event_returns_what_its_method_returns_and_calls_the_callbacks():
    camera, seen = Camera(), []
    camera.frame.connect(seen.append)
    assert camera.frame(3) == 3
    assert seen == [3]


def test_each_instance_has_its_own_callbacks():
    one, two, seen = Camera(), Camera(), []
    one.frame.connect(seen.append)
    two.frame(1)
    assert seen == []
    assert one.frame is one.frame


def test_an_event_that_overrides_an_event_publishes_once():
    class Better(Camera):
        @event
        def frame(self, number: int) -> int:
            return 2 * super().frame(number)

    camera, seen = Better(), []
    camera.frame.connect(seen.append)
    assert [camera.frame(1), camera.frame(2)] == [2, 4]
    assert seen == [2, 4]


def test_a_plain_method_that_overrides_an_event_stays_one():
    class Quiet(Camera):
        def frame(self, number: int) -> int:
            return 2 * super().frame(number)

    camera = Quiet()
    assert [camera.frame(1), camera.frame(2)] == [2, 4]
    assert "frame" not in vars(camera)


def test_an_event_that_is_not_overridden_is_published_by_super_too():
    class Busy(Camera):
        def snap(self) -> int:
            return super().frame(7)

    camera, seen = Busy(), []
    camera.frame.connect(seen.append)
    assert camera.snap() == 7
    assert seen == [7]


# -- which callbacks are the same -----------------------------------------------------------------------------


def make_bound() -> Callable[[], Callable[..., Any]]:
    display = Display()
    return lambda: display.show


def make_builtin() -> Callable[[], Callable[..., Any]]:
    values: list[int] = []
    return lambda: values.append


def make_function() -> Callable[[], Callable[..., Any]]:
    def show(number: int) -> None: ...

    return lambda: show


def make_partial() -> Callable[[], Callable[..., Any]]:
    show = functools.partial(Display().show)
    return lambda: show


def make_object() -> Callable[[], Callable[..., Any]]:
    display = Display()
    return lambda: display


def make_slot_wrapper() -> Callable[[], Callable[..., Any]]:
    function = functools.partial(print)
    return lambda: function.__call__


@pytest.mark.parametrize(
    "make", [make_bound, make_builtin, make_function, make_partial, make_object, make_slot_wrapper]
)
def test_a_callable_is_itself_and_no_other(make):
    look, other = make(), make()
    assert Callback(look()) == Callback(look())
    assert hash(Callback(look())) == hash(Callback(look()))
    assert Callback(look()) != Callback(other())


@pytest.mark.parametrize("attribute", ["show", "__call__"])
def test_callbacks_that_look_alike_are_both_called(attribute):
    camera, one, two = Camera(), Display(), Display()
    assert repr(one) == repr(two)
    camera.frame.connect(getattr(one, attribute))
    camera.frame.connect(getattr(two, attribute))
    camera.frame(1)
    assert (one.shown, two.shown) == ([1], [1])


def test_a_callback_that_looks_different_by_now_is_still_known():
    camera, display = Camera(), Display()
    camera.frame.connect(display.show)
    camera.frame(1)
    assert camera.frame.is_callback(display.show)
    assert camera.frame.disconnect(display.show)
    camera.frame(2)
    assert display.shown == [1]


def test_a_callback_that_is_connected_twice_is_called_once():
    camera, display = Camera(), Display()
    for _ in range(2):
        camera.frame.connect(display.show)
    camera.frame(1)
    assert display.shown == [1]
    assert len(camera.frame.get_callbacks()) == 1


def test_methods_of_heros_are_the_same_by_realm_name_and_method():
    method = Callback(Method(Hero("lab", "shutter"), "open"))
    assert method == Callback(Method(Hero("lab", "shutter"), "open"))
    assert method.name == "shutter.open"
    for hero, name in [(Hero("home", "shutter"), "open"), (Hero("lab", "lamp"), "open"), (Hero("lab", "shutter"), "x")]:
        assert method != Callback(Method(hero, name))


def test_what_wraps_a_method_of_a_hero_is_called_like_any_other_callable():
    callback = Callback(functools.partial(Method(Hero("lab", "shutter"), "open"), 1))
    assert not callback.is_remote_hero


def test_what_cannot_be_called_is_no_callback():
    with pytest.raises(TypeError, match="callable"):
        Camera().frame.connect(3)


def test_an_event_is_not_its_own_callback():
    camera = Camera()
    with pytest.raises(ValueError, match="itself"):
        camera.frame.connect(camera.frame)
    assert not camera.frame.get_callbacks()


def test_an_event_that_is_connected_to_another_has_a_name():
    camera, other = Camera(), Camera()
    other._name = "other"
    assert camera.frame.connect(other.frame) == "other.frame"
    assert "event frame of" in repr(other.frame)
    assert "partial" in camera.frame.connect(functools.partial(other.frame))
