"""Exceptions of methods, attributes and setters, as they arrive."""

from __future__ import annotations

import sys

from saying import elsewhere, finish, proxy, say

from heros import LocalHERO
from heros.exceptions import HEROSError, RemoteHEROError, RemoteTransportError

REALM = sys.argv[1]


class Own(Exception):
    pass


class OwnValueError(ValueError):
    pass


CASES = {
    "ValueError": lambda: ValueError("a text"),
    "ValueError without text": lambda: ValueError(),
    "ValueError with two": lambda: ValueError("a", 2),
    "KeyError": lambda: KeyError("key"),
    "IndexError": lambda: IndexError("7"),
    "TypeError": lambda: TypeError("a type"),
    "RuntimeError": lambda: RuntimeError("run"),
    "AttributeError": lambda: AttributeError("attr"),
    "NameError": lambda: NameError("name"),
    "OSError": lambda: OSError(2, "No such file"),
    "FileNotFoundError": lambda: FileNotFoundError(2, "No such file", "a.txt"),
    "TimeoutError": lambda: TimeoutError("late"),
    "ConnectionError": lambda: ConnectionError("gone"),
    "ZeroDivisionError": lambda: ZeroDivisionError("zero"),
    "NotImplementedError": lambda: NotImplementedError("later"),
    "AssertionError": lambda: AssertionError("assert"),
    "UnicodeError": lambda: UnicodeError("uni"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    "StopIteration": lambda: StopIteration("stop"),
    "Warning": lambda: UserWarning("careful"),
    "Own": lambda: Own("own text"),
    "OwnValueError": lambda: OwnValueError("own value"),
    "HEROSError": lambda: HEROSError("heros"),
}


class Failing(LocalHERO):
    def as_value(self, name: str) -> object:
        return CASES[name]()

    def fail(self, name: str) -> None:
        raise CASES[name]()

    broken_now: bool = False

    @property
    def broken(self) -> int:
        if self.broken_now:
            raise RuntimeError("cannot be read")
        return 1

    @broken.setter
    def broken(self, value: int) -> None:
        raise ValueError(f"not {value}")

    @property
    def missing(self) -> int:
        return self.no_such_part if self.broken_now else 1


class Middle(LocalHERO):
    def through(self, name: str) -> None:
        """Fails as another HERO has failed."""
        remote.fail(name)


def tell(key: str, act) -> None:
    try:
        say(f"{key} returns", act())
        return
    except Exception as error:
        caught = error
    builtins = [cls.__name__ for cls in type(caught).__mro__ if cls.__module__ == "builtins"]
    say(f"{key} is", builtins[0])
    say(f"{key} is a RemoteHEROError", isinstance(caught, RemoteHEROError))
    for name in ("message", "remote_type", "remote_module", "args"):
        say(f"{key} {name}", getattr(caught, name, None))
    say(f"{key} endpoint names the member", "failing" in str(getattr(caught, "endpoint", "")))
    trace = getattr(caught, "remote_traceback", "") or ""
    say(f"{key} traceback shows the line", "errors.py" in trace)
    say(f"{key} class", type(caught).__name__)
    say(f"{key} text has the message", str(getattr(caught, "message", "?")) in str(caught))


elsewhere(lambda: Failing("failing", realm=REALM))
remote = proxy("failing", REALM)
for name in CASES:
    tell(name, lambda name=name: remote.fail(name))
middle = Middle("middle", realm=REALM)
remote_middle = proxy("middle", REALM)
tell("through another", lambda: remote_middle.through("ValueError"))
for name in ("ValueError", "Own"):
    value = remote.as_value(name)
    say(f"{name} as a value", [isinstance(value, RemoteHEROError), isinstance(value, ValueError), value.message])
remote.broken_now = True
tell("getter", lambda: remote.broken)
tell("setter", lambda: setattr(remote, "broken", 3))
tell("AttributeError in a getter", lambda: remote.missing)
say("tree", [issubclass(cls, HEROSError) for cls in (RemoteHEROError, RemoteTransportError)])
made = RemoteHEROError("message", remote_type="T", remote_traceback="trace", endpoint="e")
say("made here", [made.message, made.remote_type, made.remote_module, made.remote_traceback, made.endpoint])

finish()
