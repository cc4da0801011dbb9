"""How a program of this directory tells what it sees: one line of JSON for each fact, a key and a text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}")


def say(key: str, value: object) -> None:
    """A fact; addresses in it, which differ from run to run, are left out."""
    print("SAYS", json.dumps([key, _ADDRESS.sub("", shown(value))]), flush=True)


def outcome(key: str, act: Callable[[], object]) -> None:
    """What ``act`` returns, or the builtin exception that it raises."""
    try:
        value = act()
    except Exception as error:
        kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "builtins")
        say(key, f"raises {kind}")
    else:
        say(key, value)


def shown(value: Any) -> str:
    """``repr`` without what may differ: the order of sets, the place of a subclass's module."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(shown, value))})"
    if type(value) is dict:
        return "{" + ", ".join(f"{shown(key)}: {shown(each)}" for key, each in value.items()) + "}"
    if type(value) in (list, tuple):
        return f"{type(value).__name__}({', '.join(map(shown, value))})"
    return repr(value)


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Wait for it; whether it became true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def finish() -> None:
    """End the process here: with the original, one that has HEROs does not end by itself."""
    print("SAYS", json.dumps(["finished", ""]), flush=True)
    os._exit(0)


def elsewhere(offer: Callable[[], object]) -> None:
    """Have ``offer`` make its HEROs in a process of its own: the same program, started again with a word more.

    Returns when they are there, in the process that uses them, and never in the other.
    """
    if sys.argv[2:]:
        kept = offer()  # noqa: F841  # for as long as the other process lives
        print("READY", flush=True)
        sys.stdin.read()
        os._exit(0)
    configuration = {"HEROS_ZENOH_CONFIG": os.environ["HEROS_TEST_CONNECT"]}
    process = subprocess.Popen(
        [sys.executable, *sys.argv, "offer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **configuration},
    )
    for line in process.stdout or ():
        if line.strip() == "READY":
            _children.append(process)
            return
    raise SystemExit("the process with the HEROs has ended")


_children: list[Any] = []


def proxy(name: str, realm: str) -> Any:
    """A RemoteHERO, as soon as its process has been found."""
    from heros import RemoteHERO

    for _ in range(200):
        try:
            return RemoteHERO(name, realm=realm)
        except NameError:
            time.sleep(0.05)
    raise SystemExit(f"HERO {name} has not been found")


def _crash(*error: Any) -> None:
    sys.__excepthook__(*error)
    sys.stderr.flush()
    os._exit(1)


sys.excepthook = _crash
