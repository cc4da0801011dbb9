"""The server side of calls, with a link that only notes the replies."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from heros.buffers import Buffer
from heros.codec import decode, encode
from heros.dispatch import Dispatcher, Exported, Gate, Member
from heros.entry import Entry
from heros.exceptions import EncodeError, OutOfSharedMemory
from heros.publisher import Publisher
from heros.transport import Payload, Peer
from heros.wire import Fault, Fields, Kind, NodeMember, Op
from heros.workers import Workers
from tests.harness import wait_until


class NotingLink:
    transport = "shm"
    peer = Peer("0", 1, "here")
    closed = False

    def __init__(self) -> None:
        self.replies: dict[int, tuple[int, int, Any]] = {}

    def reply(self, kind: int, op: int, call_id: int, header: bytes, buffers: list[Buffer]) -> None:
        assert call_id not in self.replies, "two replies to one call"
        self.replies[call_id] = (kind, op, decode(header, buffers)[0])


class Stage:
    position = 1.5
    limit = 3

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def add(self, a: int, b: int = 2) -> int:
        return a + b

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def leave(self) -> None:
        raise SystemExit(3)

    def wait(self) -> str:
        self.entered.set()
        self.release.wait(10)
        return "waited"

    def odd(self) -> object:
        return "\udcff"  # no valid text

    def misuse(self) -> None:
        raise EncodeError("an event's value cannot be sent")

    def make(self) -> list[int]:
        return Dying()

    def drop(self, text: str) -> None:
        dying = Dying()
        raise ValueError(f"{text} {dying}")


class Dying(list[int]):
    """Knows when it is gone."""

    gone = 0

    def __del__(self) -> None:
        Dying.gone += 1


NAMES = ["add", "fail", "leave", "wait", "odd", "misuse", "make", "drop", "position", "limit"]


class Server:
    """A dispatcher with one HERO, as a transport sees it."""

    def __init__(self, gate: str = "method") -> None:
        self.workers = Workers("test")
        self.dispatcher = Dispatcher("f00d", self.workers)
        self.stage = Stage()
        shared = Gate()
        gates = {"method": Gate, "object": lambda: shared, "free": lambda: None}
        members = [
            Member(
                self.stage,
                name,
                "attribute"
                if hasattr(type(self.stage), name) and not callable(getattr(type(self.stage), name))
                else "method",
                gates[gate](),
                writable=name == "position",
            )
            for name in NAMES
        ]
        self.exported = Exported(Entry("realm", "stage", "1", "f00d"), members, [{"name": name} for name in NAMES])
        self.dispatcher.export(self.exported)
        self.link = NotingLink()
        self.calls = 0

    def request(self, member: int | str, value: Any, op: int = Op.CALL, kind: int = Kind.CALL, chain: int = 0, **more):
        """What the transport does with a frame that it has read: the task, not yet run."""
        self.calls += 1
        header, buffers = more.get("raw") or encode(value)
        index = NAMES.index(member) if isinstance(member, str) else member
        object_id = more.get("object_id", self.exported.object_id)
        fields: Fields = (kind, 0, op, index, self.calls, object_id, chain, len(header), len(buffers))
        return self.dispatcher.receive(self.link, fields, header, buffers)

    def ask(self, member: int | str, value: Any, **more: Any) -> tuple[int, int, Any]:
        task = self.request(member, value, **more)
        if task is not None:
            task()
        return self.link.replies[self.calls]


@pytest.fixture
def server():
    server = Server()
    yield server
    server.workers.stop()


def test_a_call(server):
    assert server.ask("add", [[1], {"b": 5}]) == (Kind.RESULT, 0, 6)


def test_an_attribute_is_read_and_written(server):
    assert server.ask("position", None, op=Op.GET)[2] == 1.5
    assert server.ask("position", 2.5, op=Op.SET) == (Kind.RESULT, 0, None)
    assert server.stage.position == 2.5


@pytest.mark.parametrize(
    ("member", "value", "op", "error"),
    [
        ("limit", 4, Op.SET, "AttributeError"),
        ("limit", [[], {}], Op.CALL, "TypeError"),
        ("add", None, Op.GET, "TypeError"),
        ("add", 1, Op.SET, "TypeError"),
        ("position", None, 9, "ValueError"),
        ("add", "no arguments", Op.CALL, "ValueError"),
        ("add", 3, Op.CALL, "TypeError"),
        ("add", [[], {"nonsense": 1}], Op.CALL, "TypeError"),
        ("leave", [[], {}], Op.CALL, "SystemExit"),
        ("odd", [[], {}], Op.CALL, "EncodeError"),
    ],
)
def test_what_goes_wrong_at_the_server_is_told(server, member, value, op, error):
    kind, fault, description = server.ask(member, value, op=op)
    assert (kind, fault) == (Kind.ERROR, Fault.RAISED)
    assert description.type == error


def test_a_result_that_cannot_be_sent_names_the_member(server):
    assert "odd" in server.ask("odd", [[], {}])[2].message


def test_what_a_method_could_not_send_is_not_said_of_its_result(server):
    assert server.ask("misuse", [[], {}])[2].message == "an event's value cannot be sent"


@pytest.mark.parametrize("member", ["make", "drop"])
def test_what_a_call_leaves_behind_is_gone_before_the_reply(server, member, monkeypatch):
    monkeypatch.setattr(Dying, "gone", 0)
    gone: list[int] = []
    reply = server.link.reply
    monkeypatch.setattr(server.link, "reply", lambda *frame: [gone.append(Dying.gone), reply(*frame)])
    server.ask(member, [["argument"] * (member == "drop"), {}])
    assert gone == [1]


def test_garbage_is_refused_and_the_next_request_works(server):
    kind, fault, _ = server.ask("add", None, raw=(b"\xc1", []))
    assert (kind, fault) == (Kind.ERROR, Fault.MALFORMED)
    assert server.ask("add", [[1], {}])[2] == 3


def test_unknown_objects_and_members_are_unavailable(server):
    assert server.ask("add", [[1], {}], object_id=99)[1] == Fault.UNAVAILABLE
    assert server.ask(99, [[1], {}])[1] == Fault.UNAVAILABLE


def test_a_withdrawn_hero_is_unavailable(server):
    server.dispatcher.withdraw(server.exported)
    assert server.ask("add", [[1], {}])[1] == Fault.UNAVAILABLE
    assert server.ask(NodeMember.BIND, ["realm", "stage", ""], object_id=0)[1] == Fault.UNAVAILABLE


def test_a_oneway_call_is_never_answered(server):
    server.request("add", [[1], {}], kind=Kind.ONEWAY)()
    server.request("fail", [[ValueError.__name__], {}], kind=Kind.ONEWAY)()
    server.request("add", None, raw=(b"\xc1", []), kind=Kind.ONEWAY)()
    assert server.link.replies == {}


def test_binding_tells_what_there_is(server):
    kind, _, description = server.ask(NodeMember.BIND, ["realm", "stage", "1"], object_id=0)
    assert kind == Kind.RESULT
    assert description["object_id"] == server.exported.object_id
    assert [each["name"] for each in description["capabilities"]] == NAMES


@pytest.mark.parametrize("arguments", [None, [], ["realm"], 7, ["realm", "stage", "another instance"]])
@pytest.mark.parametrize("member", [*NodeMember, 77])
def test_nonsense_to_the_node_is_refused(server, member, arguments):
    assert server.ask(int(member), arguments, object_id=0)[0] == Kind.ERROR


def test_requests_to_the_node_say_what_is_wrong_with_them(server):
    assert server.ask(NodeMember.BIND, None, raw=(b"\xc1", []), object_id=0)[1] == Fault.MALFORMED
    assert server.ask(NodeMember.BIND, [], object_id=0)[1] == Fault.MALFORMED
    assert server.ask(NodeMember.SUBSCRIBE, [1, 99, 0], object_id=0)[1] == Fault.UNAVAILABLE


def test_a_subscription_that_fails_on_the_way_is_answered_and_forgotten(server, monkeypatch):
    member = Member(server.stage, "tick", "event", None, publisher=Publisher("realm/stage/tick", keep=1))
    exported = Exported(Entry("realm", "events", "2", "f00d"), [member], [])
    server.dispatcher.export(exported)
    member.publisher.publish(Payload(b"", ()))

    def full(*_: object) -> bool:
        raise OutOfSharedMemory("full")

    monkeypatch.setattr(server.link, "publish", full, raising=False)
    kind, fault, description = server.ask(NodeMember.SUBSCRIBE, [7, exported.object_id, 0], object_id=0)
    assert (kind, fault, description.type) == (Kind.ERROR, Fault.RAISED, "OutOfSharedMemory")
    assert server.dispatcher._subscribers == {server.link: {}}
    assert not member.publisher._subscribers


@pytest.mark.parametrize("ident", [-1, 1 << 64, 1.5, "7", None, [1]])
def test_a_subscription_id_that_no_frame_could_carry_is_refused(server, ident):
    member = Member(server.stage, "tick", "event", None, publisher=Publisher("realm/stage/tick"))
    exported = Exported(Entry("realm", "events", "2", "f00d"), [member], [])
    server.dispatcher.export(exported)
    kind, fault, _ = server.ask(NodeMember.SUBSCRIBE, [ident, exported.object_id, 0], object_id=0)
    assert (kind, fault) == (Kind.ERROR, Fault.MALFORMED)
    assert not member.publisher.wanted


def test_a_subscription_that_comes_with_the_end_is_refused_and_forgotten(server):
    member = Member(server.stage, "tick", "event", None, publisher=Publisher("realm/stage/tick"))
    exported = Exported(Entry("realm", "events", "2", "f00d"), [member], [])
    server.dispatcher.export(exported)
    member.publisher.end("withdrawn this moment")
    assert server.ask(NodeMember.SUBSCRIBE, [7, exported.object_id, 0], object_id=0)[1] == Fault.UNAVAILABLE
    assert server.dispatcher._subscribers == {server.link: {}}


def test_frames_that_belong_to_a_client_are_ignored(server):
    assert server.request("add", [[1], {}], kind=Kind.SAMPLE) is None


def test_a_busy_method_queues_and_blocks_nobody(server):
    first = threading.Thread(target=server.request("wait", [[], {}]))
    first.start()
    assert server.stage.entered.wait(5)
    assert server.request("wait", [[], {}]) is None, "the second call must wait in its gate"
    assert server.ask("add", [[1], {}])[2] == 3, "another method must not wait"
    server.stage.release.set()
    first.join(5)
    assert [server.link.replies[call][2] for call in (1, 2)] == ["waited", "waited"]


def run_while_waiting(gate: str, member: str, chain: int = 0):
    """Ask for ``member`` while ``wait`` runs; the task, None if it was queued."""
    server = Server(gate)
    first = threading.Thread(target=server.request("wait", [[], {}], chain=256))
    first.start()
    assert server.stage.entered.wait(5)
    task = server.request(member, [[1], {}] if member == "add" else [[], {}], chain=chain)
    server.stage.release.set()
    first.join(5)
    if task is not None:
        task()
    assert set(server.link.replies) == {1, 2}
    server.workers.stop()
    return task


def test_object_concurrency_makes_all_methods_wait():
    assert run_while_waiting("object", "add") is None


def test_free_concurrency_makes_none_wait():
    assert run_while_waiting("free", "wait") is not None


def test_a_chain_is_let_in_again():
    assert run_while_waiting("object", "add", chain=257) is not None
    assert run_while_waiting("object", "add", chain=513) is None


class Nesting:
    """Its one method waits until it is told to go on."""

    def __init__(self) -> None:
        self.entered = {name: threading.Event() for name in ("outer", "nested", "other")}
        self.go = {name: threading.Event() for name in self.entered}

    def work(self, name: str) -> None:
        self.entered[name].set()
        assert self.go[name].wait(10)


@pytest.mark.parametrize("queued", [False, True])
def test_a_nested_call_that_outlives_its_outer_one_leaves_the_gate_to_its_present_chain(server, queued):
    nesting, gate = Nesting(), Gate()
    exported = Exported(Entry("realm", "nesting", "3", "f00d"), [Member(nesting, "work", "method", gate)], [])
    server.dispatcher.export(exported)

    def start(name: str, chain: int) -> int:
        task = server.request(0, [[name], {}], object_id=exported.object_id, chain=chain)
        if task is not None:
            threading.Thread(target=task, daemon=True).start()
            assert nesting.entered[name].wait(5)
        return server.calls

    one, other = 7 << 8, 9 << 8
    outer = start("outer", one)
    nested = start("nested", one + 2)  # A calls B calls A, and then the call of B times out
    if queued:
        start("other", other)
    nesting.go["outer"].set()
    wait_until(lambda: outer in server.link.replies)
    if not queued:
        wait_until(lambda: not gate._busy.locked())
        start("other", other)
    assert nesting.entered["other"].wait(5)
    nesting.go["nested"].set()
    wait_until(lambda: nested in server.link.replies)
    nesting.go["outer"].clear()
    back = server.request(0, [["outer"], {}], object_id=exported.object_id, chain=other + 2)
    nesting.go["other"].set()
    nesting.go["outer"].set()
    assert back is not None, "the other chain, which has the gate, was not let in again"
    back()


def test_too_many_waiting_requests_are_refused(server, monkeypatch):
    from heros import limits

    monkeypatch.setattr(limits, "QUEUED_REQUESTS", 1)
    first = threading.Thread(target=server.request("wait", [[], {}]))
    first.start()
    assert server.stage.entered.wait(5)
    assert server.request("wait", [[], {}]) is None
    assert server.ask("wait", [[], {}])[1] == Fault.BUSY
    server.stage.release.set()
    first.join(5)
