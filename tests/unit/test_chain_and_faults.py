"""Calls within calls, and exceptions that travel."""

from __future__ import annotations

import builtins
import sys
import threading

import pytest

from heros import chain, limits
from heros.codec import ErrorDescription, decode, encode
from heros.exceptions import HEROSError, RemoteHEROError
from heros.faults import describe, rebuild


@pytest.fixture(autouse=True)
def _outside_of_any_call():
    yield
    chain.serving.clear()


def serve(chain_id: int) -> None:
    chain.serving[threading.get_ident()] = chain_id


def test_two_outermost_calls_are_two_chains():
    assert not chain.same_chain(chain.next_call(), chain.next_call())


def test_a_call_within_a_call_is_of_its_chain():
    first = chain.next_call()
    serve(first)
    assert chain.same_chain(first, chain.next_call())


def test_a_chain_ends_at_the_depth_limit():
    for _ in range(limits.MAX_CALL_DEPTH + 1):
        serve(chain.next_call())
    with pytest.raises(HEROSError, match="deep"):
        chain.next_call()


def test_a_call_that_nobody_waits_for_is_a_chain_of_its_own():
    for _ in range(limits.MAX_CALL_DEPTH + 1):
        serve(chain.next_call())
    new = chain.new_chain()
    assert not chain.same_chain(new, chain.serving[threading.get_ident()])
    serve(new)
    chain.next_call()


def arrive(error: BaseException) -> RemoteHEROError:
    return rebuild(describe(error), "realm/name/member")


BUILTINS = [
    each
    for each in vars(builtins).values()
    if isinstance(each, type) and issubclass(each, Exception) and not issubclass(each, BaseExceptionGroup)
]


@pytest.mark.parametrize("builtin", BUILTINS, ids=lambda cls: cls.__name__)
def test_a_builtin_arrives_as_itself(builtin):
    error = rebuild(ErrorDescription(builtin.__name__, "builtins", "what happened", ""), "realm/name/member")
    assert isinstance(error, RemoteHEROError)
    if not issubclass(builtin, (StopIteration, StopAsyncIteration)):
        assert isinstance(error, builtin)
    assert error.message == "what happened"
    assert str(error).endswith("what happened")
    assert error.remote_type == builtin.__name__
    assert error.endpoint == "realm/name/member"
    repr(error)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)])
def test_what_would_end_the_client_is_only_reported(error):
    arrived = arrive(error)
    assert type(arrived) is RemoteHEROError
    assert arrived.remote_type == type(error).__name__


def test_a_class_of_ones_own_keeps_its_name():
    class Jammed(Exception):
        pass

    arrived = arrive(Jammed("the shutter is jammed"))
    assert type(arrived) is RemoteHEROError
    assert (arrived.remote_type, arrived.remote_module) == ("Jammed", __name__)
    assert arrived.message == "the shutter is jammed"
    assert str(arrived) == "Jammed: the shutter is jammed", "its class is not to be seen otherwise"


def test_a_hostile_name_is_only_a_name():
    for name in ("eval", "__import__", "Exception", "object", "no such thing"):
        assert type(rebuild(ErrorDescription(name, "builtins", "x", ""), "")) is RemoteHEROError


def test_an_exception_whose_text_fails_is_described_all_the_same():
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert "Mute" in arrive(Mute()).message


def test_the_traceback_travels():
    def inner():
        raise ValueError("deep inside")

    def outer():
        inner()

    with pytest.raises(ValueError, match="deep inside") as caught:
        outer()
    assert "inner" in arrive(caught.value).remote_traceback


def raised(raise_it) -> BaseException:
    try:
        raise_it()
    except BaseException as error:
        return error
    raise AssertionError


def test_what_caused_an_exception_travels_with_it():
    def fail() -> None:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise ValueError("the end") from error

    text = arrive(raised(fail)).remote_traceback
    assert "KeyError: 'the cause'" in text
    assert "direct cause" in text
    assert "ValueError: the end" in text


def test_the_members_of_a_group_travel_with_it():
    def fail() -> None:
        raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("more", [OSError("two")])])

    text = arrive(raised(fail)).remote_traceback
    assert "ValueError: one" in text
    assert "OSError: two" in text


def test_the_frames_of_heros_do_not_travel():
    from heros.entry import check_name

    def fail() -> None:
        check_name("a/b")

    text = arrive(raised(fail)).remote_traceback
    assert "in fail" in text
    assert "check_name" in text, "the user's line"
    assert "in check_name" not in text


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (
            FileNotFoundError(2, "nothing there", "f.txt"),
            {"errno": 2, "strerror": "nothing there", "filename": "f.txt"},
        ),
        (OSError(18, "two", "from", None, "to"), {"errno": 18, "filename": "from", "filename2": "to"}),
        (OSError("only a text"), {"errno": None}),
        (KeyError("key"), {"args": ("key",)}),
        (KeyError(1, 2.5, b"3"), {"args": (1, 2.5, b"3")}),
        (
            UnicodeDecodeError("utf8", b"x\xff", 1, 2, "bad"),
            {"object": b"x\xff", "start": 1, "end": 2, "reason": "bad"},
        ),
        (ValueError(), {"args": ("",)}),
        (ValueError(object), {"args": ("<class 'object'>",)}),
        (ValueError(2**70), {"args": (str(2**70),)}),
    ],
    ids=repr,
)
def test_a_builtin_keeps_its_fields(error, fields):
    arrived = rebuild(decode(encode(describe(error))[0])[0], "")
    assert {name: getattr(arrived, name) for name in fields} == fields
    assert str(arrived) == arrived.message == str(error)


@pytest.mark.parametrize("arguments", [(), (1,), (None,) * 9])
@pytest.mark.parametrize("name", ["UnicodeDecodeError", "OSError", "KeyError", "ImportError", "SyntaxError"])
def test_arguments_that_do_not_fit_do_no_harm(name, arguments):
    arrived = rebuild(ErrorDescription(name, "builtins", "what happened", "", arguments), "")
    assert arrived.message == str(arrived) == "what happened"
    repr(arrived)


@pytest.mark.parametrize("text", ["x" * (64 << 20), "\U0001f600" * (20 << 20), "a file \udcff"])
def test_whatever_the_text_it_can_be_sent(text):
    header, buffers = encode(describe(ValueError(text)))
    assert len(header) < limits.MIB
    assert not buffers
    arrived = rebuild(decode(header, ())[0], "")
    assert isinstance(arrived, ValueError)
    assert arrived.message[:7] == text[:7].replace("\udcff", "")


def test_an_overlong_message_and_an_overlong_traceback_say_that_they_are_cut():
    description = describe(ValueError("begin" + "x" * 100_000))
    assert description.message.startswith("beginxxx")
    assert description.message.endswith("100005 characters]")

    def deep(n: int) -> None:
        if n:
            exec(f"def f{n}(n): deep(n - 1)", {"deep": deep}, names := {})
            names[f"f{n}"](n)
        else:
            raise ValueError("the end")

    old = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        deep(900)
    except ValueError as error:
        description = describe(error)
    finally:
        sys.setrecursionlimit(old)
    assert len(description.traceback) < 70_000
    assert "characters are cut" in description.traceback
    assert "the end" in description.traceback  # the line that raised
