"""The server's part of a call, from a frame to the reply, without a transport."""

from __future__ import annotations

from typing import Any

from benchmarks.conftest import Compare
from benchmarks.measure import loop
from heros.codec import encode_arguments
from heros.dispatch import Dispatcher, Exported, Gate, Member
from heros.entry import Entry
from heros.wire import Kind, Op
from heros.workers import Workers

LOOPS = 400


class Calculator:
    gain = 1.5

    def add(self, a: int, b: int) -> int:
        return a + b


class Sink:
    """A link that keeps nothing."""

    def reply(self, *_: object) -> None:
        pass


def _serving(hero: Calculator, name: str, flavor: str, op: Op, header: bytes) -> Any:
    """A step: one request, received and served."""
    dispatcher = Dispatcher("node", Workers("benchmark"))
    exported = Exported(Entry("benchmark", "calculator", "1", "node", 1, "here"), [], [])
    exported.members = (Member(hero, name, flavor, Gate()),)
    dispatcher.export(exported)
    link: Any = Sink()
    fields = (int(Kind.CALL), 0, int(op), 0, 1, exported.object_id, 0x100, len(header), 0)

    def step() -> None:
        task = dispatcher.receive(link, fields, header, ())
        assert task is not None
        task()

    return step


def test_call(compare: Compare) -> None:
    hero = Calculator()
    step = _serving(hero, "add", "method", Op.CALL, encode_arguments((1, 2), {})[0])
    compare(loop(step, LOOPS), loop(lambda: hero.add(1, 2), LOOPS), "hero.add(1, 2)")


def test_read(compare: Compare) -> None:
    hero = Calculator()
    step = _serving(hero, "gain", "attribute", Op.GET, b"\xc0")
    compare(loop(step, LOOPS), loop(lambda: hero.gain, LOOPS), "hero.gain")
