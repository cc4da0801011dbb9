"""A thread that serves one call comes to serve another on the way; the ring that both came from must still be read."""

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
