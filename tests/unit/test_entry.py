"""Entries of the registry, and the names they may carry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heros.entry import Entry, check_name
from heros.exceptions import DecodeError
from heros.limits import MAX_NAME_LENGTH

QUICK = settings(max_examples=200, deadline=None)


def is_name(text: str) -> bool:
    try:
        check_name(text)
    except ValueError:
        return False
    return True


names = st.text(st.characters(codec="utf-8", exclude_characters="/*$#?"), min_size=1, max_size=30).filter(is_name)
ids = st.from_regex(r"[0-9a-f]{1,32}", fullmatch=True)
texts = st.lists(st.text(max_size=10), max_size=3).map(tuple)
entries = st.builds(
    Entry,
    realm=names,
    name=names,
    instance=ids,
    node_id=ids,
    pid=st.integers(0, 2**31),
    host=st.text(max_size=10),
    class_name=st.text(max_size=10),
    implements=texts,
    tags=texts,
    extra_metadata=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3),
    address=st.text(max_size=10),
)

VALID: dict[str, Any] = {"realm": "heros", "name": "camera", "instance": "0a", "node_id": "0b"}


@pytest.mark.parametrize(
    "name", ["camera", "a", "Zähler-1", "x_1.2:3", "two words", "...", "a@b", "n" * MAX_NAME_LENGTH]
)
def test_names(name: str) -> None:
    assert check_name(name) is name


@pytest.mark.parametrize("name", ["a/b", "*", "a*", "$", "#", "a?b", "/"])
def test_a_wildcard_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot name a HERO: it contains .*Use letters"):
        check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "@object", "a\nb", "a\0", "\udcff", "n" * (MAX_NAME_LENGTH + 1)])
def test_what_else_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot name a realm: a name has 1 to 200 printable characters"):
        check_name(name, "realm")


@pytest.mark.parametrize("name", [None, 1, b"camera", ["camera"]])
def test_a_name_is_a_str(name: Any) -> None:
    with pytest.raises(TypeError, match=f"the name of a HERO must be a str, not {type(name).__name__}"):
        check_name(name)


@given(entries)
@QUICK
def test_an_entry_arrives_as_it_was(entry: Entry) -> None:
    assert Entry.from_json(entry.to_json()) == entry
    assert Entry.from_json(memoryview(entry.to_json())) == entry


def test_an_entry_needs_four_fields() -> None:
    assert Entry.from_dict(VALID) == Entry("heros", "camera", "0a", "0b")
    for missing in VALID:
        with pytest.raises(DecodeError, match=missing):
            Entry.from_dict({key: value for key, value in VALID.items() if key != missing})


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a/b"},
        {"name": ""},
        {"name": 1},
        {"realm": "*"},
        {"realm": None},
        {"instance": "../x"},
        {"instance": ""},
        {"node_id": "a/b"},
        {"node_id": 3},
        {"pid": "many"},
        {"pid": None},
        {"pid": float("inf")},
        {"host": 1},
        {"class_name": []},
        {"implements": [1]},
        {"implements": 1},
        {"tags": [None]},
        {"extra_metadata": []},
        {"extra_metadata": {"a": 1}},
        {"address": None},
    ],
    ids=repr,
)
def test_what_is_no_entry(fields: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="not an entry of the registry"):
        Entry.from_dict(VALID | fields)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"null", b"[]", b'"text"', b"1", b"[" * 100_000, b"{}"])
def test_what_is_no_json_of_an_entry(data: bytes) -> None:
    with pytest.raises(DecodeError, match=r"an? entry of the registry"):
        Entry.from_json(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields_of_an_entry = st.sampled_from([*Entry.__dataclass_fields__, "unknown"])


@given(st.dictionaries(fields_of_an_entry, json_values, max_size=4))
@QUICK
def test_garbage_is_an_entry_or_refused(fields: dict[str, Any]) -> None:
    try:
        entry = Entry.from_json(json.dumps(VALID | fields).encode())
    except DecodeError:
        return
    assert Entry.from_json(entry.to_json()) == entry


@given(st.binary(max_size=100))
@QUICK
def test_bytes_are_an_entry_or_refused(data: bytes) -> None:
    try:
        Entry.from_json(data)
    except DecodeError:
        pass
