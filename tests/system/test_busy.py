"""A thread that serves a call may come to serve another on the way, or run a finaliser: the ring must still be read."""

from __future__ import annotations

import threading

import pytest

import heros
from tests.harness import Child, wait_until

SERVER = """
import sys, threading, heros
from heros.node import current
from tests.harness import wait_until

class Inner(heros.LocalHERO):
    def work(self, block: bool) -> int:
        if block:
            print("INSIDE", flush=True)
            gates = [m.gate for e in current().dispatcher.exported() for m in e.members if m.name == "work"]
            wait_until(lambda: len(gates[0]) == 1, what="the other call waits for this one")
        return threading.get_ident()

class Outer(heros.LocalHERO):
    def run(self) -> list:
        heros.RemoteHERO("inner").work(True)
        return [threading.get_ident(), end.wait(10)]

    def end(self) -> None:
        end.set()

end = threading.Event()
inner, outer = Inner("inner"), Outer("outer")
print("READY", flush=True)
sys.stdin.read()
"""


def test_a_reply_to_another_call_leaves_the_ring_to_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    with Child(SERVER) as server:
        server.ready()
        monkeypatch.setenv("HEROS_TRANSPORT", "shm")
        outer, inner = heros.RemoteHERO("outer"), heros.RemoteHERO("inner")
        results: dict[str, object] = {}
        run = threading.Thread(target=lambda: results.update(run=outer.run()))
        work = threading.Thread(target=lambda: results.update(work=inner.work(False)))
        run.start()
        server.expect("INSIDE")
        work.start()
        wait_until(lambda: "work" in results)
        outer.end()
        run.join(20)
        work.join(20)
        assert results["run"] == [results["work"], True], "the same thread served both, and was told of the end in time"


FINALISING = """
import sys, threading, heros
go = threading.Event()
class Result(list):
    def __del__(self):
        print("DYING", flush=True)
        print("GONE" if go.wait(10) else "STUCK", flush=True)
class Hero(heros.LocalHERO):
    def make(self):
        return Result([1])
    def fail(self):
        result = Result([1])
        raise ValueError("on purpose")
    def go(self):
        go.set()
hero = Hero("finalising")
print("READY", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("method", ["make", "fail"])
def test_a_finaliser_of_what_a_call_leaves_behind_keeps_no_other_call_waiting(method: str) -> None:
    with Child(FINALISING) as server:
        server.ready()
        hero = heros.RemoteHERO("finalising")
        outcome: list[object] = []

        def call() -> None:
            try:
                outcome.append(getattr(hero, method)())
            except ValueError as error:
                outcome.append(str(error))

        caller = threading.Thread(target=call)
        caller.start()
        server.expect("DYING")
        hero.go()
        server.expect("GONE")
        caller.join(20)
        assert outcome == [[1] if method == "make" else "on purpose"]
