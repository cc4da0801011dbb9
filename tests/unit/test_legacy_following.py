"""Which liveliness tokens are asked whose they are, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from heros.entry import Entry
from heros.net.bus import Answer, OnAnswer, OnJson
from heros.net.legacy import cbor
from heros.net.legacy.following import AGAIN_SECONDS, ASK_SECONDS, GRACE_SECONDS, Following
from heros.transport import Task


class Rig:
    """A bus that only notes what is asked, and a clock that is put forward."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Task]] = []
        self.ours: set[str] = set()
        self.news: list[str] = []
        self.asked: list[str] = []
        self.open: list[tuple[OnAnswer, Callable[[], None]]] = []
        self.following = Following("realm", self, b"query", self.later, lambda: self.ours, self.tell)  # type: ignore[arg-type]
        self.following.follow()

    def watch_tokens(self, key: str, on_presence: Callable[[str, bool], None]) -> None:
        assert key == "@object/realm/*/_health"
        self.on_presence = on_presence

    def ask(
        self,
        key: str,
        payload: bytes,
        timeout: float,
        on_reply: OnJson,
        on_done: Callable[[], None],
        on_cbor: OnAnswer,
    ) -> None:
        assert (payload, timeout) == (b"query", ASK_SECONDS)
        self.asked.append(key)
        self.open.append((on_cbor, on_done))

    def later(self, delay: float, task: Task) -> None:
        self.timers.append((self.now + delay, task))

    def tell(self, what: str, entries: Iterable[Entry]) -> None:
        self.news += [f"{what} {entry.name} {entry.class_name}" for entry in entries]

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = end

    def token(self, name: str, present: bool = True) -> None:
        self.on_presence(f"@object/realm/{name}/_health", present)
        self.wait(0)

    def answer(self, *answers: tuple[str, str]) -> None:
        """(name, class) of each HERO that answers the question that was asked last."""
        on_cbor, on_done = self.open.pop()
        for number, (name, kind) in enumerate(answers):
            fields: dict[str, Any] = {"proto_version": 1.0, "name": name, "class": kind}
            on_cbor(Answer(f"@object/realm/{name}/_discover", cbor.encode(fields, ""), False, True, f"{number}"))
        on_done()
        self.wait(0)


def test_tokens_of_ours_are_not_asked_about():
    rig = Rig()
    for number in range(100):
        rig.token(f"hero{number}")
        rig.wait(GRACE_SECONDS / 10)
        rig.ours.add(f"hero{number}")  # their directory tells a little later
    rig.wait(10)
    assert rig.asked == []
    assert rig.timers == []


def test_one_that_nobody_knows_is_asked_once_and_told():
    rig = Rig()
    rig.token("old")
    rig.wait(GRACE_SECONDS * 0.99)
    assert rig.asked == []
    rig.wait(GRACE_SECONDS * 1.02)
    assert rig.asked == ["@object/realm/old/_discover"]
    rig.answer(("old", "Dev"))
    assert rig.news == ["added old Dev"]
    assert [entry.name for entry in rig.following.entries()] == ["old"]
    rig.wait(100)
    assert len(rig.asked) == 1
    rig.token("old", present=False)
    assert rig.news == ["added old Dev", "removed old Dev"]
    assert rig.following.entries() == []


def test_an_answer_that_comes_when_the_token_is_gone_is_dropped():
    rig = Rig()
    rig.token("old")
    rig.wait(1)
    rig.token("old", present=False)
    rig.answer(("old", "Dev"))
    assert rig.news == []


def test_one_that_does_not_answer_is_asked_again_ever_more_rarely():
    rig = Rig()
    rig.token("old")
    rig.wait(1)
    for _ in range(8):
        rig.answer()
        rig.wait(AGAIN_SECONDS[1])
    assert len(rig.asked) == 9
    rig.answer()
    rig.wait(AGAIN_SECONDS[0])
    assert len(rig.asked) == 9
    rig.wait(AGAIN_SECONDS[1])
    rig.answer(("old", "Dev"))
    assert rig.news == ["added old Dev"]


def test_one_that_turns_out_to_be_ours_is_not_asked_again():
    rig = Rig()
    rig.token("hero")
    rig.wait(1)
    rig.answer()
    rig.ours.add("hero")
    rig.wait(1000)
    assert len(rig.asked) == 1


def test_a_name_of_ours_may_have_been_anothers_too():
    rig = Rig()
    rig.ours.add("hero")
    rig.token("hero")
    rig.wait(1)
    rig.ours.clear()
    rig.following.look_again([Entry("realm", "hero", "1", "1"), Entry("realm", "gone", "2", "1")])
    rig.wait(1)
    assert rig.asked == ["@object/realm/hero/_discover"]


def test_a_token_again_means_to_ask_again():
    rig = Rig()
    rig.token("old")
    rig.wait(1)
    rig.answer(("old", "First"))
    rig.token("old")
    rig.wait(1)
    rig.answer(("old", "First"), ("old", "Second"))
    assert rig.news == ["added old First", "added old Second"]


def test_a_wrong_answer_is_logged_and_others_count(caplog):
    rig = Rig()
    rig.token("old")
    rig.wait(1)
    on_cbor, _ = rig.open[-1]
    on_cbor(Answer("@object/realm/old/_discover", b"\xff", False, True, "9"))
    rig.answer(("old", "Dev"))
    assert rig.news == ["added old Dev"]
    assert "ignored" in caplog.text
