"""What a channel to a HERO of protocol 1.0 makes of answers and samples, without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from heros import codec, limits
from heros.buffers import Buffer
from heros.exceptions import CallTimeout, DecodeError, EncodeError, HEROUnavailable, PeerLost, RemoteTransportError
from heros.net.bus import Answer, OnAnswer
from heros.net.legacy import cbor
from heros.net.legacy.channel import SAMPLE_OVERHEAD, LegacyChannel, _Feed
from heros.net.legacy.entry import LegacyEntry, read_descriptor
from heros.transport import Channel, Link, Reply, Task
from heros.wire import Fault, Fields, Kind, NodeMember, Op
from tests.system.test_interrupts import interrupt, places

ZID, OTHER = "aa", "bb"
ENTRY = LegacyEntry("realm", "hero", "1", "1", zid=ZID)
MEMBERS = [
    {"name": "add", "flavor": "method", "parameters": [], "return_type": "int"},
    {"name": "x", "flavor": "attribute", "type": "int", "access": "rw"},
    {"name": "tick", "flavor": "event"},
]
NOTHING = codec.encode([[], {}])[0]


class Wire:
    """A bus on which nothing happens by itself."""

    def __init__(self) -> None:
        self.queries: list[tuple[str, bytes | None, OnAnswer, Callable[[], None]]] = []
        self.subscribed: dict[str, Callable[[str, bytes, None], None]] = {}
        self.undeclared: list[object] = []

    def query(
        self, key: str, payload: bytes | None, timeout: float, on_answer: OnAnswer, on_done: Callable[[], None]
    ) -> None:
        self.queries.append((key, payload, on_answer, on_done))

    def subscribe(self, key: str, on_sample: Callable[[str, bytes, None], None]) -> object:
        self.subscribed[key] = on_sample
        return key

    def watch_tokens(self, key: str, on_presence: Callable[[str, bool], None]) -> object:
        self.presence = on_presence
        on_presence(key, True)
        return key

    def undeclare(self, declared: object) -> None:
        self.undeclared.append(declared)


class Now:
    """Workers that do what is posted when they are told to."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def post(self, task: Task) -> None:
        self.tasks.append(task)

    def run(self) -> None:
        while self.tasks:
            self.tasks.pop(0)()


class Sink:
    def __init__(self) -> None:
        self.frames: list[tuple[int, int, int, Any]] = []
        self.ends: list[BaseException] = []

    def receive(
        self, source: Channel | Link, fields: Fields, header: bytes | memoryview, buffers: Sequence[Buffer]
    ) -> Task | None:
        value = codec.decode(header, buffers)[0] if fields[0] == Kind.SAMPLE else None
        self.frames.append((fields[0], fields[5], fields[6], value))
        return None

    def closed(self, source: Channel | Link, reason: BaseException) -> None:
        self.ends.append(reason)


class Rig:
    def __init__(self, entry: LegacyEntry = ENTRY) -> None:
        self.bus, self.workers, self.sink = Wire(), Now(), Sink()
        self.forgotten: list[object] = []
        self.channel = LegacyChannel(
            self.bus,  # type: ignore[arg-type]
            "own",
            self.workers,  # type: ignore[arg-type]
            entry,
            self.sink,
            self.forgotten.append,
        )

    def submit(self, op: int, member: int, object_id: int, header: bytes) -> list[Reply | BaseException]:
        replies: list[Reply | BaseException] = []
        self.channel.submit(op, member, object_id, 0, header, (), replies.append)
        return replies

    def answer(self, value: Any, is_error: bool = False, zid: str = ZID, payload: bytes | None = None) -> None:
        data = cbor.encode(value, "own") if payload is None else payload
        self.bus.queries[-1][2](Answer("", data, is_error, payload is None, zid))

    def done(self) -> None:
        self.bus.queries[-1][3]()

    def bound(self) -> Rig:
        self.channel.connect(1)
        replies = self.submit(0, NodeMember.BIND, 0, codec.encode(["realm", "hero", ""])[0])
        self.answer(MEMBERS)
        self.done()
        self.workers.run()
        assert isinstance(replies[0], Reply)
        self.description = codec.decode(replies[0].header)[0]
        return self


def error_of(outcome: Reply | BaseException) -> tuple[int, Any]:
    assert isinstance(outcome, Reply)
    assert outcome.fields[0] == Kind.ERROR
    return outcome.fields[2], codec.decode(outcome.header)[0]


class Answering(Wire):
    """A bus that answers each query at once."""

    def query(
        self, key: str, payload: bytes | None, timeout: float, on_answer: OnAnswer, on_done: Callable[[], None]
    ) -> None:
        on_answer(Answer("", cbor.encode(MEMBERS if payload is None else 3, "own"), False, True, ZID))
        on_done()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_at_any_point_of_a_call_leaves_the_channel_usable():
    rig = Rig()
    rig.bus = rig.channel._bus = Answering()  # type: ignore[assignment]
    rig.channel.connect(1)
    rig.channel.call(0, NodeMember.BIND, 0, 0, codec.encode(["realm", "hero", ""])[0], (), 20)

    def call() -> Any:
        reply = rig.channel.call(Op.CALL, 0, 1, 0, NOTHING, (), 20)
        return codec.decode(reply.header)[0]

    found = [place for place in places(call) if place[0].co_filename.endswith(("legacy/channel.py", "workers.py"))]
    assert sum(interrupt(call, where) for where in found) > 10
    for _ in range(3):
        replies = rig.submit(Op.CALL, 0, 1, NOTHING)
        rig.workers.run()
        assert isinstance(replies[0], Reply)


def test_the_description_and_a_call():
    rig = Rig().bound()
    assert rig.bus.queries[0][:2] == ("@object/realm/hero/_capabilities", None)
    assert [each["name"] for each in rig.description["capabilities"]] == ["add", "x", "tick"]
    replies = rig.submit(Op.CALL, 0, 1, codec.encode([[1], {"b": 2}])[0])
    key, payload, _, _ = rig.bus.queries[-1]
    assert key == "@object/realm/hero/add/**"
    assert cbor.decode(payload or b"", "own") == [[1], {"b": 2}]
    rig.answer(3)
    rig.done()
    rig.workers.run()
    (reply,) = replies
    assert isinstance(reply, Reply)
    assert codec.decode(reply.header)[0] == 3
    assert not rig.channel.closed


def test_a_read_has_no_payload_and_a_write_its_value():
    rig = Rig().bound()
    rig.submit(Op.GET, 1, 1, codec.encode(None)[0])
    assert rig.bus.queries[-1][:2] == ("@object/realm/hero/x/**", None)
    rig.submit(Op.SET, 1, 1, codec.encode(None)[0])
    assert rig.bus.queries[-1][1] == b"\xf6"


def test_the_description_is_asked_for_once_and_only_of_this_instance():
    rig = Rig().bound()
    for instance in ("", ENTRY.instance, rig.description["instance"]):
        (reply,) = [rig.submit(0, NodeMember.BIND, 0, codec.encode(["realm", "hero", instance])[0])]
        rig.workers.run()
        assert isinstance(reply[0], Reply)
        assert codec.decode(reply[0].header)[0] == rig.description
    assert len(rig.bus.queries) == 1
    refused = rig.submit(0, NodeMember.BIND, 0, codec.encode(["realm", "hero", "another"])[0])
    rig.workers.run()
    assert error_of(refused[0])[0] == Fault.UNAVAILABLE


def test_another_channel_is_another_instance():
    assert Rig().bound().description["instance"] != Rig().bound().description["instance"]


def test_no_reply_is_a_lost_peer_and_ends_the_channel():
    rig = Rig().bound()
    replies = rig.submit(Op.CALL, 0, 1, NOTHING)
    others = rig.submit(Op.GET, 1, 1, NOTHING)
    rig.bus.queries[-2][3]()
    rig.workers.run()
    assert isinstance(replies[0], PeerLost)
    assert isinstance(others[0], PeerLost)
    assert rig.channel.closed
    assert rig.forgotten == [rig.channel]
    assert [str(end) for end in rig.sink.ends] == [str(replies[0])]
    with pytest.raises(PeerLost):
        rig.submit(Op.CALL, 0, 1, NOTHING)
    rig.done()
    rig.channel.close()
    rig.workers.run()
    assert len(others) == len(rig.sink.ends) == len(rig.forgotten) == 1


def test_the_token_ends_it_too():
    rig = Rig().bound()
    replies = rig.submit(Op.CALL, 0, 1, NOTHING)
    rig.bus.presence("@object/realm/hero/_health", False)
    rig.workers.run()
    assert isinstance(replies[0], PeerLost)
    assert rig.bus.undeclared == ["@object/realm/hero/_health"]


def test_answers_of_another_of_the_name_are_ignored():
    rig = Rig().bound()
    replies = rig.submit(Op.CALL, 0, 1, NOTHING)
    rig.answer("wrong", zid=OTHER)
    rig.answer("wrong", zid=OTHER, is_error=True)
    rig.answer("right")
    rig.done()
    rig.workers.run()
    (reply,) = replies
    assert isinstance(reply, Reply)
    assert codec.decode(reply.header)[0] == "right"


def test_an_error_is_raised_there():
    rig = Rig().bound()
    replies = rig.submit(Op.CALL, 0, 1, NOTHING)
    rig.answer(codec.ErrorDescription("ValueError", "builtins", "bad", "trace"), is_error=True)
    rig.done()
    rig.workers.run()
    fault, description = error_of(replies[0])
    assert fault == Fault.RAISED
    assert description.message == "bad"


def test_an_error_of_zenohs_is_a_lost_peer():
    rig = Rig().bound()
    replies = rig.submit(Op.CALL, 0, 1, NOTHING)
    rig.answer(None, is_error=True, payload=b"Timeout", zid=OTHER)
    rig.done()
    rig.workers.run()
    assert isinstance(replies[0], PeerLost)
    assert "Timeout" in str(replies[0])


def test_nonsense_is_a_decode_error_and_the_next_call_works():
    rig = Rig().bound()
    replies = rig.submit(Op.CALL, 0, 1, NOTHING)
    rig.bus.queries[-1][2](Answer("", b"\xff\xff", False, True, ZID))
    rig.done()
    rig.workers.run()
    assert isinstance(replies[0], DecodeError)
    test_an_error_is_raised_there()
    assert not rig.channel.closed


def test_what_makes_no_sense_is_refused_here():
    rig = Rig().bound()
    asked = len(rig.bus.queries)
    refused = [
        rig.submit(Op.CALL, 1, 1, NOTHING),
        rig.submit(Op.GET, 0, 1, NOTHING),
        rig.submit(Op.CALL, 9, 1, NOTHING),
        rig.submit(Op.CALL, 0, 7, NOTHING),
    ]
    rig.workers.run()
    faults = [error_of(replies[0])[0] for replies in refused]
    assert faults == [Fault.RAISED, Fault.RAISED, Fault.UNAVAILABLE, Fault.UNAVAILABLE]
    with pytest.raises(EncodeError, match="add of HERO 'hero'"):
        rig.submit(Op.CALL, 0, 1, codec.encode([[timedelta(1)], {}])[0])
    assert len(rig.bus.queries) == asked


def test_a_time_out_and_a_forgotten_call():
    rig = Rig().bound()
    with pytest.raises(CallTimeout):
        rig.channel.call(Op.CALL, 0, 1, 0, NOTHING, (), 0.001)
    rig.done()  # late, and without a reply: nobody waits for it
    assert not rig.channel.closed
    replies: list[Any] = []
    ident = rig.channel.submit(Op.CALL, 0, 1, 0, NOTHING, (), replies.append)
    rig.channel.forget(ident)
    rig.answer(3)
    rig.done()
    rig.workers.run()
    assert replies == []


def test_much_that_is_unanswered_is_left_to_a_worker():
    rig = Rig().bound()
    asked = len(rig.bus.queries)
    big = codec.encode([["x" * (64 << 10)], {}])[0]
    rig.submit(Op.CALL, 0, 1, big)
    rig.submit(Op.CALL, 0, 1, NOTHING)
    assert len(rig.bus.queries) == asked
    rig.workers.run()
    assert len(rig.bus.queries) == asked + 2
    assert [len(payload or b"") > 1000 for _, payload, _, _ in rig.bus.queries[asked:]] == [True, False]  # in order
    for _, _, _, done in rig.bus.queries[asked:]:
        done()
    assert rig.channel._unanswered == 0


def subscribe(rig: Rig, ident: int = 5) -> Callable[[Any], None]:
    replies = rig.submit(0, NodeMember.SUBSCRIBE, 0, codec.encode([ident, 1, 2])[0])
    assert rig.bus.queries[-1][0] == "@object/realm/hero/_discover"  # a round trip, behind the subscription
    assert not replies
    rig.answer({})
    rig.done()
    rig.workers.run()
    assert isinstance(replies[0], Reply)
    assert codec.decode(replies[0].header)[0] == 0
    on_sample = rig.bus.subscribed["@object/realm/hero/tick"]

    def sample(value: Any) -> None:
        on_sample("", value if isinstance(value, bytes) else cbor.encode(value, "own"), None)

    return sample


def test_samples_are_numbered():
    rig = Rig().bound()
    sample = subscribe(rig)
    sample("a")
    sample({"b": 1})
    rig.workers.run()
    assert rig.sink.frames == [(Kind.SAMPLE, 1, 1, "a"), (Kind.SAMPLE, 2, 2, {"b": 1})]


def test_a_sample_that_cannot_be_read_is_missed_and_the_next_one_arrives(caplog: pytest.LogCaptureFixture):
    rig = Rig().bound()
    sample = subscribe(rig)
    sample(b"\xff\xff")
    sample(2)
    rig.workers.run()
    assert rig.sink.frames == [(Kind.GAP, 1, 1, None), (Kind.SAMPLE, 2, 2, 2)]
    assert "could not be read" in caplog.text


def test_samples_before_the_end_are_delivered_before_it():
    rig = Rig().bound()
    sample = subscribe(rig)
    sample("last")
    seen_at_end: list[int] = []
    rig.sink.closed = lambda source, reason: seen_at_end.append(len(rig.sink.frames))  # type: ignore[method-assign]
    rig.bus.presence("", False)
    rig.workers.run()
    assert seen_at_end == [1]
    assert "@object/realm/hero/tick" in rig.bus.undeclared


def test_after_unsubscribing_nothing_arrives():
    rig = Rig().bound()
    sample = subscribe(rig)
    sample(1)
    replies = rig.submit(0, NodeMember.UNSUBSCRIBE, 0, codec.encode([5])[0])
    rig.workers.run()
    assert isinstance(replies[0], Reply)
    assert rig.sink.frames == []
    assert rig.bus.undeclared == ["@object/realm/hero/tick"]


def test_a_burst_arrives_whole():
    rig = Rig().bound()
    sample = subscribe(rig)
    for number in range(4 * limits.EVENT_WINDOW):
        sample(number)
    rig.workers.run()
    assert [frame[3] for frame in rig.sink.frames] == list(range(4 * limits.EVENT_WINDOW))


def test_a_full_window_drops_and_says_so(monkeypatch: pytest.MonkeyPatch):
    rig = Rig().bound()
    sample = subscribe(rig)
    monkeypatch.setattr(limits, "EVENT_WINDOW_BYTES", 100 * (SAMPLE_OVERHEAD + 1))
    for _ in range(110):
        sample(0)  # one byte
    rig.workers.run()
    assert len(rig.sink.frames) == 100
    rig.channel.post(Kind.ACK, 0, 5, 10, 0)
    rig.workers.run()
    assert rig.sink.frames[-1] == (Kind.GAP, 110, 101, None)
    sample(1)
    rig.workers.run()
    assert rig.sink.frames[-1] == (Kind.SAMPLE, 111, 102, 1)
    rig.channel.post(Kind.ACK, 0, 5, 102, 0)
    rig.workers.run()
    assert rig.sink.frames[-1][3] == 1  # nothing more to tell
    for _ in range(110):
        sample(0)
    rig.workers.run()
    assert len(rig.sink.frames) == 202  # all of the window was given back


def test_the_window_takes_one_sample_of_any_size():
    feed = _Feed(1)
    huge = 2 * limits.EVENT_WINDOW_BYTES
    assert feed.admit(huge) == (1, 1)
    assert feed.admit(1) is None
    assert feed.acknowledge(1) == (2, 2)
    assert feed.admit(huge) is None  # the GAP is still on its way
    assert feed.acknowledge(2) == (3, 3)
    feed.acknowledge(3)
    assert feed.admit(huge) == (4, 4)


def test_a_hero_that_is_gone_or_cannot_be_talked_to():
    rig = Rig(LegacyEntry("realm", "hero", "1", "1", obstacle="for a reason"))
    with pytest.raises(RemoteTransportError, match="for a reason"):
        rig.channel.connect(1)
    rig = Rig()
    rig.bus.watch_tokens = lambda key, on_presence: key  # type: ignore[method-assign]
    with pytest.raises(HEROUnavailable, match="hero"):
        rig.channel.connect(0.001)


# -- descriptors ----------------------------------------------------------------------------------------------

DESCRIPTOR = {
    "proto_version": 1.0,
    "name": "hero",
    "class": "Hero",
    "implements": {"b", "a"},
    "tags": {"t"},
    "extra_metadata": {"k": "v"},
}


def answer(value: Any, key: str = "@object/realm/hero/_discover", zid: str = ZID) -> Answer:
    return Answer(key, cbor.encode(value, ""), False, True, zid)


def test_a_descriptor_is_an_entry():
    entry = read_descriptor(answer(DESCRIPTOR), "realm")
    assert (entry.realm, entry.name, entry.class_name, entry.implements) == ("realm", "hero", "Hero", ("a", "b"))
    assert (entry.tags, entry.extra_metadata, entry.zid, entry.obstacle) == (("t",), {"k": "v"}, ZID, "")
    assert entry == read_descriptor(answer(DESCRIPTOR), "realm")
    assert entry.instance.isalnum()
    assert entry.instance != read_descriptor(answer(DESCRIPTOR, zid=OTHER), "realm").instance


@pytest.mark.parametrize("version", [0.1, 2.0, float("nan")])
def test_another_version_is_an_obstacle(version):
    assert "version" in read_descriptor(answer({**DESCRIPTOR, "proto_version": version}), "realm").obstacle


@pytest.mark.parametrize(
    "value", [None, [], {}, {**DESCRIPTOR, "name": "other"}, {**DESCRIPTOR, "tags": [1]}, {**DESCRIPTOR, "class": 1}]
)
def test_what_is_no_descriptor_is_a_decode_error(value):
    with pytest.raises(DecodeError):
        read_descriptor(answer(value), "realm")
