"""The gateway without a network: what it does with queries that make no sense, and with listeners that do not read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from heros import codec, limits
from heros.dispatch import Dispatcher, Exported, Gate, Member
from heros.entry import Entry
from heros.exceptions import RemoteTransportError
from heros.net.legacy import cbor, gateway
from heros.net.legacy.gateway import Gateway
from heros.publisher import Publisher
from heros.transport import Payload
from heros.wire import Op
from heros.workers import Workers
from tests.harness import wait_until

NODE = "a" * 32
ENTRY = Entry("lab", "laser", "1", NODE, class_name="Laser", tags=("t",))


class Question:
    """A query, as ``bus`` hands it over."""

    def __init__(self, key: str, payload: bytes | None = None) -> None:
        self.key = key
        self.payload = payload
        self.replies: list[tuple[str, Any]] = []
        self.failures: list[Any] = []
        self.closed = threading.Event()

    def reply(self, key: str, payload: bytes, encoding: str) -> None:
        assert encoding == "cbor"
        self.replies.append((key, cbor.decode(payload, NODE)))

    def fail(self, payload: bytes, encoding: str) -> None:
        assert encoding == "cbor"
        self.failures.append(cbor.decode(payload, NODE))

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


class Audience:
    """A publisher of zenoh."""

    def __init__(self, key: str, on_change: Callable[[], None]) -> None:
        self.key = key
        self.on_change = on_change
        self.present = False
        self.sent: list[Any] = []
        self.may_send = threading.Event()
        self.may_send.set()
        self.broken = False

    def put(self, payload: bytes) -> None:
        self.may_send.wait(60)
        if self.broken:
            raise RemoteTransportError("closed")
        self.sent.append(cbor.decode(payload, NODE))

    def turn(self, present: bool) -> None:
        self.present = present
        self.on_change()


class Bus:
    def __init__(self) -> None:
        self.audiences: dict[str, Audience] = {}

    def audience(self, key: str, on_change: Callable[[], None]) -> Audience:
        audience = self.audiences[key] = Audience(key, on_change)
        return audience

    def undeclare(self, audience: Audience) -> None:
        assert self.audiences.pop(audience.key) is audience


class Laser:
    power = 3

    def __init__(self) -> None:
        self.publisher = Publisher("lab/laser/tick")
        self.go = threading.Event()
        self.inside = threading.Event()

    def set(self, power: int) -> int:
        self.power = power
        return power

    def wait(self) -> None:
        self.inside.set()
        self.go.wait(60)

    @property
    def undefined(self) -> int:
        raise AttributeError("no value")

    def publish(self, value: Any) -> None:
        self.publisher.publish(Payload(*codec.encode(value)))


class Rig:
    def __init__(self, workers: Workers, reliable: bool = False) -> None:
        self.workers = workers
        self.bus = Bus()
        self.dispatcher = Dispatcher(NODE, workers)
        self.laser = Laser()
        self.laser.publisher.reliable = reliable
        self.export(ENTRY)
        self.gateway: Any = Gateway("lab", NODE, self.bus, workers, self.dispatcher)  # type: ignore[arg-type]
        self.gateway.open()
        self.gateway.offer(ENTRY)

    def export(self, entry: Entry) -> None:
        laser = self.laser
        members = [
            Member(laser, "set", "method", Gate()),
            Member(laser, "wait", "method", Gate()),
            Member(laser, "power", "attribute", Gate(), writable=True),
            Member(laser, "undefined", "attribute", Gate()),
            Member(laser, "tick", "event", Gate(), publisher=laser.publisher),
        ]
        described: list[dict[str, Any]] = [{"name": each.name, "flavor": each.flavor} for each in members]
        for each in described:
            if each["flavor"] == "method":
                each.update(parameters=[], return_type="None", doc="")
            else:
                each.update(type="int", access="rw", doc="", reliable=False, keep=0)
        self.exported = Exported(entry, members, described)
        self.dispatcher.export(self.exported)

    def ask(self, member: str, payload: bytes | None = None, name: str = "laser", rest: str = "/**") -> Question:
        question = Question(f"@object/lab/{name}/{member}{rest}", payload)
        self.gateway.take(ENTRY, question)
        assert question.closed.wait(60)
        return question

    def listen(self) -> Audience:
        """Somebody subscribes to the event."""
        self.bus.audiences["@object/lab/**"].turn(True)
        tick = wait_until(lambda: self.bus.audiences.get("@object/lab/laser/tick"))
        tick.turn(True)
        wait_until(lambda: self.laser.publisher.wanted)
        return tick


@pytest.fixture
def workers() -> Iterator[Workers]:
    group = Workers("test")
    yield group
    group.stop()


@pytest.fixture
def rig(workers: Workers) -> Rig:
    return Rig(workers)


CALL = cbor.encode([[5], {}], NODE)


def test_a_call_an_attribute_and_the_descriptions(rig):
    assert rig.ask("set", CALL).replies == [("@object/lab/laser/set", 5)]
    assert rig.ask("power").replies == [("@object/lab/laser/power", 5)]
    assert rig.ask("power", cbor.encode(7, NODE)).replies == [("@object/lab/laser/power", None)]
    assert rig.laser.power == 7
    ((key, descriptor),) = rig.ask("_discover", name="*").replies
    assert key == "@object/lab/laser/_discover"
    assert descriptor["name"] == "laser"
    ((_, capabilities),) = rig.ask("_capabilities", rest="").replies
    assert [each["name"] for each in capabilities] == ["set", "wait", "power", "undefined", "tick"]
    assert "doc" not in capabilities[0]


def test_what_cannot_be_answered(rig):
    assert rig.ask("set").failures[0].type == "DecodeError"
    assert rig.ask("set", b"\xff").failures[0].type == "DecodeError"
    assert rig.ask("nothing", CALL).failures[0].type == "AttributeError"
    assert rig.ask("tick", CALL).failures[0].type == "TypeError"
    assert rig.ask("undefined").replies == [("@object/lab/laser/undefined", None)]


@pytest.mark.parametrize("member", ["**", "*", "set/x/y", "_health/a"])
def test_what_is_no_question_to_a_member_gets_no_answer(rig, member):
    question = rig.ask(member, CALL, rest="")
    assert (question.replies, question.failures) == ([], [])


def test_a_hero_that_was_withdrawn_does_not_answer(rig):
    rig.ask("set", CALL)
    rig.dispatcher.withdraw(rig.exported)  # its queryable goes a moment later
    question = rig.ask("set", CALL)
    assert (question.replies, question.failures) == ([], [])
    rig.gateway.withdraw(ENTRY)
    question = rig.ask("set", CALL)
    assert (question.replies, question.failures) == ([], [])


def test_a_hero_that_is_withdrawn_before_the_first_question_does_not_answer(rig):
    rig.dispatcher.withdraw(rig.exported)
    question = rig.ask("set", CALL)
    assert (question.replies, question.failures) == ([], [])


def test_questions_are_taken_up_to_a_limit(rig, monkeypatch):
    monkeypatch.setattr(limits, "QUEUED_REQUESTS", 3)
    monkeypatch.setattr(rig.workers, "post", lambda task: None)
    questions = [Question("@object/lab/laser/power/**") for _ in range(5)]
    for question in questions:
        rig.gateway.take(ENTRY, question)
    assert [question.closed.is_set() for question in questions] == [False, False, False, True, True]


def test_a_busy_method_keeps_no_worker_waiting(rig):
    first = Question("@object/lab/laser/wait/**", cbor.encode([[], {}], NODE))
    rig.gateway.take(ENTRY, first)
    assert rig.laser.inside.wait(60)
    others = [Question("@object/lab/laser/wait/**", cbor.encode([[], {}], NODE)) for _ in range(500)]
    for question in others:
        rig.gateway.take(ENTRY, question)
    assert rig.ask("set", CALL).replies == [("@object/lab/laser/set", 5)]
    rig.laser.go.set()
    for question in (first, *others):
        assert question.closed.wait(60)
        assert question.replies == [("@object/lab/laser/wait", None)]


def test_replies_that_are_not_read_hold_up_a_few_workers_and_are_bounded(rig, monkeypatch, caplog):
    monkeypatch.setattr(limits, "NET_REPLY_BACKLOG_BYTES", 2000)
    rig.laser.power = bytes(1000)
    may_send = threading.Event()
    sending: list[Question] = []

    class Stuck(Question):
        def reply(self, key: str, payload: bytes, encoding: str) -> None:
            sending.append(self)
            may_send.wait(60)
            super().reply(key, payload, encoding)

    def ask() -> Stuck:
        question = Stuck("@object/lab/laser/power/**")
        rig.gateway.take(ENTRY, question)
        return question

    for count in range(gateway.SENDERS):
        ask()
        wait_until(lambda count=count: len(sending) == count + 1)
    waiting = [ask() for _ in range(5)]
    wait_until(lambda: [record for record in caplog.records if "dropped" in record.getMessage()])
    may_send.set()
    for question in waiting:
        assert question.closed.wait(60)
        assert len(question.replies) + len(question.failures) == 1
    assert sum(len(question.replies) for question in waiting) in (1, 2)
    assert rig.ask("set", CALL).replies == [("@object/lab/laser/set", 5)]


# -- events -----------------------------------------------------------------------------------------------------------


def test_an_event_is_encoded_while_somebody_listens(rig):
    rig.laser.publish(1)
    tick = rig.listen()
    rig.laser.publish(2)
    wait_until(lambda: tick.sent == [2])
    tick.turn(False)
    wait_until(lambda: not rig.laser.publisher.wanted)
    rig.laser.publish(3)
    tick.turn(True)
    wait_until(lambda: rig.laser.publisher.wanted)
    rig.laser.publish(4)
    wait_until(lambda: tick.sent == [2, 4])
    rig.bus.audiences["@object/lab/**"].turn(False)
    wait_until(lambda: list(rig.bus.audiences) == ["@object/lab/**"])
    assert not rig.laser.publisher.wanted


def test_before_a_call_it_is_looked_who_listens(rig):
    rig.bus.audiences["@object/lab/**"].present = True  # and zenoh has not told yet
    rig.ask("set", CALL)
    tick = rig.bus.audiences["@object/lab/laser/tick"]
    tick.present = True
    rig.ask("set", CALL)
    assert rig.laser.publisher.wanted


def test_a_hero_that_is_offered_while_somebody_listens(rig):
    rig.listen()
    rig.gateway.withdraw(ENTRY)
    assert list(rig.bus.audiences) == ["@object/lab/**"]
    wait_until(lambda: not rig.laser.publisher.wanted)
    rig.gateway.offer(ENTRY)
    assert "@object/lab/laser/tick" in rig.bus.audiences


def test_a_listener_that_does_not_read_costs_samples_and_not_memory(rig, monkeypatch):
    monkeypatch.setattr(limits, "EVENT_WINDOW_BYTES", 20_000)
    tick = rig.listen()
    tick.may_send.clear()
    frame = np.zeros(1000, np.uint8)
    for _ in range(100):
        rig.laser.publish(frame)
    tick.may_send.set()
    wait_until(lambda: tick.sent)
    sent = len(tick.sent)

    def arrives() -> bool:
        rig.laser.publish(7)
        return type(tick.sent[-1]) is int

    wait_until(arrives)
    assert sent <= sum(type(each) is np.ndarray for each in tick.sent) <= 12


def test_a_burst_is_not_limited_by_a_number_of_samples(rig, monkeypatch):
    tick = rig.listen()
    tick.may_send.clear()
    for value in range(5 * limits.EVENT_WINDOW):
        rig.laser.publish(value)
    tick.may_send.set()
    wait_until(lambda: len(tick.sent) == 5 * limits.EVENT_WINDOW)
    assert tick.sent == list(range(5 * limits.EVENT_WINDOW))


def test_a_listener_that_holds_up_a_reliable_event_is_disconnected_and_comes_back(workers, monkeypatch, caplog):
    monkeypatch.setattr(limits, "RELIABLE_SECONDS", 0.05)
    monkeypatch.setattr(limits, "EVENT_WINDOW_BYTES", 2500)
    rig = Rig(workers, reliable=True)
    tick = rig.listen()
    tick.may_send.clear()
    for value in range(5):
        rig.laser.publish(value)
    assert [record for record in caplog.records if "held up the publisher" in record.getMessage()]
    tick.may_send.set()

    def arrives() -> bool:
        rig.laser.publish("again")
        return "again" in tick.sent

    wait_until(arrives)
    assert rig.ask("set", CALL).replies == [("@object/lab/laser/set", 5)]  # nothing else was disconnected


def test_a_closed_session_ends_the_feeds_without_a_word(rig, caplog):
    caplog.set_level(logging.INFO)
    tick = rig.listen()
    tick.broken = True
    rig.laser.publish(1)
    rig.gateway.close()
    wait_until(lambda: not rig.laser.publisher.wanted)
    rig.laser.publish(2)
    assert caplog.records == []


def test_without_cbor2_there_are_no_audiences(workers, monkeypatch):
    monkeypatch.setattr(cbor, "available", lambda: False)
    assert Rig(workers).bus.audiences == {}


def test_a_result_without_a_form_in_protocol_1_is_an_error(rig):
    rig.laser.power = np.zeros(2, "i4,f8")
    (error,) = rig.ask("power").failures
    assert error.type == "EncodeError"
    assert "power" in error.message


def test_the_op_of_each_question(rig):
    assert rig.gateway._read("attribute", None)[0] == Op.GET
    assert rig.gateway._read("attribute", b"\x03")[0] == Op.SET
    assert rig.gateway._read("method", CALL)[0] == Op.CALL
