"""The original HEROS, protocol 1.0, in a process of its own: ``with Original(realm, port) as original: ...``.

It is another package of the same name, in an environment of its own (``tests.harness.ORIGINAL``). The process
runs what it is sent: its own ``heros``, ``np``, ``realm``, and whatever earlier lines have left.

This file is also that process's program, and then the ``heros`` it imports is the original.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

__all__ = ["Original", "OriginalError"]


class OriginalError(Exception):
    """What was raised in the original's process; ``kinds`` are the names of its class and of those it derives from."""

    def __init__(self, kinds: list[str], text: str) -> None:
        super().__init__(f"{kinds[0]}: {text}")
        self.kinds = kinds


def Original(realm: str, port: int, listen: bool = False) -> Any:
    """Start it. It connects to, or listens on, the port of 127.0.0.1."""
    from heros.demo.loopback import zenoh_config
    from tests.harness import DEADLINE, ORIGINAL, Child

    class Process(Child):
        def ask(self, code: str, deadline: float = 3 * DEADLINE) -> Any:
            """The value of an expression, or None for statements; lists for tuples, texts for what is not JSON."""
            self.say(json.dumps(code))
            answer = json.loads(self.expect("ANSWER", deadline))
            if "error" in answer:
                raise OriginalError(*answer["error"])
            return answer["value"]

        def wait_for(self, code: str, deadline: float = 3 * DEADLINE) -> Any:
            """Wait until the expression is true."""
            return self.ask(f"wait_for(lambda: {code}, {deadline})", deadline + DEADLINE)

    process = Process(
        Path(__file__).resolve(), realm, env={"HEROS_ZENOH_CONFIG": zenoh_config(port, listen)},
        interpreter=ORIGINAL,
    )  # fmt: skip
    process.ready(3 * DEADLINE)
    return process


def _wait_for(condition: Any, seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {seconds:g} s")
        time.sleep(0.01)
    return value


def _main(realm: str) -> None:
    import numpy as np

    import heros

    assert heros.__version__ == "2026.2.2", heros.__file__

    def find(name: str, seconds: float = 60.0) -> Any:
        """A proxy, as soon as there is such a HERO."""

        def look() -> Any:
            try:
                return heros.RemoteHERO(name, realm=realm)
            except NameError:
                return None

        return _wait_for(look, seconds)

    names: dict[str, Any] = {
        "heros": heros, "np": np, "realm": realm, "find": find, "wait_for": _wait_for, "threading": threading,
    }  # fmt: skip
    print("READY", flush=True)
    for line in sys.stdin:
        code = json.loads(line)
        try:
            try:
                value = eval(compile(code, "<test>", "eval"), names)
            except SyntaxError:
                value = exec(code, names)
            answer = {"value": value}
        except BaseException as error:
            traceback.print_exc()
            answer = {"error": [[kind.__name__ for kind in type(error).__mro__], str(error)]}
        print("ANSWER", json.dumps(answer, default=repr), flush=True)
    heros.heros.default_session_manager.force_close()
    os._exit(0)  # its threads would keep the process


if __name__ == "__main__":
    _main(sys.argv[1])
