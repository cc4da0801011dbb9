"""Objects that stay with their owner and travel as numbers."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from heros.references import KEPT_OBJECTS, UnserializableRemoteObject, WeakObjects, lower


class Thing:
    """Neither hashable nor equal to itself: what identifies it is its identity."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return False


@pytest.fixture
def objects() -> WeakObjects:
    return WeakObjects("owner")


def test_it_is_the_object_again_when_it_comes_back(objects):
    thing = Thing()
    assert objects.resolve(objects.refer(thing)) is thing


def test_an_object_keeps_its_number_and_shares_it_with_none(objects):
    one, two = Thing(), Thing()
    first = objects.refer(one)
    assert objects.refer(two).object_id != first.object_id
    assert objects.refer(one).object_id == first.object_id


def test_a_number_is_never_used_again(objects):
    """Not even for an object of the same class at the same address."""
    addresses, numbers = set(), set()
    for _ in range(100):
        thing = Thing()
        addresses.add(id(thing))
        numbers.add(objects.refer(thing).object_id)
        del thing
    assert len(addresses) < 100  # addresses were used again
    assert len(numbers) == 100


def test_a_late_reference_meets_no_other_object(objects):
    thing = Thing()
    late = objects.refer(thing)
    del thing
    gc.collect()
    for other in [Thing() for _ in range(10)]:
        objects.refer(other)
    with pytest.raises(ReferenceError, match="no longer exists"):
        objects.resolve(late)


def test_nothing_is_kept_of_objects_that_are_gone(objects):
    things = [Thing() for _ in range(10)]
    for thing in things:
        objects.refer(thing)
    assert len(objects._numbers) == 10
    del thing
    things.clear()
    gc.collect()
    assert not objects._numbers
    assert not objects._objects


def test_an_object_of_another_node_is_stood_for(objects):
    reference = WeakObjects("another").refer(Thing())
    stand_in = objects.resolve(reference)
    assert isinstance(stand_in, UnserializableRemoteObject)
    assert stand_in.reference() == reference


@pytest.mark.parametrize(
    "thing",
    [range(3), {1: 2}.keys(), ValueError("no"), object(), (number for number in ())],
    ids=lambda each: type(each).__name__,
)
def test_what_allows_no_weak_reference_comes_back_too(objects, thing):
    reference = objects.refer(thing)
    assert objects.refer(thing) == reference
    assert objects.resolve(reference) is thing


def test_of_those_that_allow_no_weak_reference_the_last_are_kept(objects):
    references = [objects.refer(object()) for _ in range(KEPT_OBJECTS + 1)]
    with pytest.raises(ReferenceError, match="no longer exists"):
        objects.resolve(references[0])
    assert len({id(objects.resolve(each)) for each in references[1:]}) == KEPT_OBJECTS
    assert len(objects._numbers) == KEPT_OBJECTS


def test_a_path_is_its_text():
    assert lower(Path("/a/b")) == "/a/b"
