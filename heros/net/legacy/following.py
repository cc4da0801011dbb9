"""Which HEROs of protocol 1.0 are in a realm, kept up to date for those who watch it.

Such a HERO has no directory: there is its liveliness token, and it answers a discovery. Our own HEROs have such tokens
too, so one that appears is first looked for in the directories of nodes, which takes a moment to be told there; only
what none of them has is asked who it is. Where there is no other HERO, nothing is asked.

Everything but the tokens themselves runs on the strand of ``Discovery``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from heros.entry import Entry
from heros.exceptions import DecodeError
from heros.net import keys
from heros.net.bus import Answer, Bus
from heros.net.legacy.entry import LegacyEntry, read_descriptor
from heros.transport import Task

__all__ = ["Following", "read_answers"]

log = logging.getLogger("heros.net")

GRACE_SECONDS: Final = 0.25
"""How long the directory of a node of ours may take to tell of a HERO whose token is there."""

ASK_SECONDS: Final = 5.0
"""How long an answer is waited for; it comes in milliseconds, unless the process is stopped."""

AGAIN_SECONDS: Final = (1.0, 60.0)
"""When a token of which nobody has told whose it is is asked about again: at first, and in the long run."""


def read_answers(answers: Iterable[Answer], realm: str) -> dict[str, LegacyEntry]:
    """The HEROs that have answered a discovery, by instance. What makes no sense is logged."""
    entries = {}
    for answer in answers:
        try:
            entry = read_descriptor(answer, realm)
        except DecodeError as error:
            log.warning("An answer to a discovery, of %s, is ignored: %s", answer.key, error)
            continue
        if entry.obstacle:
            _tell_once(entry)
        entries[entry.instance] = entry
    return entries


class Following:
    """See the module.

    Args:
        query: the payload of our discovery queries.
        later: runs a task on the strand, after some seconds.
        our_names: the names of all HEROs in the directories of nodes, this one's included.
        tell: tells the watchers of HEROs that were ``"added"`` or ``"removed"``.
    """

    def __init__(
        self,
        realm: str,
        bus: Bus,
        query: bytes,
        later: Callable[[float, Task], None],
        our_names: Callable[[], set[str]],
        tell: Callable[[str, Iterable[Entry]], None],
    ) -> None:
        self._realm = realm
        self._bus = bus
        self._query = query
        self._later = later
        self._our_names = our_names
        self._tell = tell
        self._tokens: set[str] = set()
        """The names of all HEROs that are there, also of ours."""
        self._entries: dict[str, dict[str, LegacyEntry]] = {}
        self._new: set[str] = set()
        self._waiting: set[str] = set()

    def entries(self) -> list[Entry]:
        return [entry for entries in self._entries.values() for entry in entries.values()]

    def follow(self) -> None:
        """Begin."""
        self._bus.watch_tokens(keys.health(self._realm, "*"), self._on_presence)

    def look_again(self, entries: Iterable[Entry]) -> None:
        """HEROs of ours are gone; others of their names may have been there all the time."""
        for entry in entries:
            if entry.name in self._tokens:
                self._look(entry.name)

    def _on_presence(self, key: str, present: bool) -> None:
        self._later(0.0, partial(self._came if present else self._went, keys.name_of(key)))

    def _came(self, name: str) -> None:
        self._tokens.add(name)
        self._look(name)

    def _went(self, name: str) -> None:
        self._tokens.discard(name)
        self._tell("removed", self._entries.pop(name, {}).values())

    def _look(self, name: str) -> None:
        if not self._new and not self._waiting:
            self._later(GRACE_SECONDS, self._look_at_all)
        self._new.add(name)

    def _look_at_all(self) -> None:
        """Ask those that have waited for a whole ``GRACE_SECONDS``."""
        due, self._waiting, self._new = self._waiting, self._new, set()
        if self._waiting:
            self._later(GRACE_SECONDS, self._look_at_all)
        for name in due & self._tokens - self._our_names() if due else ():
            self._ask(name, 0)

    def _ask(self, name: str, attempt: int) -> None:
        answers: list[Answer] = []
        self._bus.ask(
            keys.discover(self._realm, name),
            self._query,
            ASK_SECONDS,
            lambda key, data: None,  # of ours, which their directory will tell of
            lambda: self._later(0.0, partial(self._answered, name, attempt, answers)),
            answers.append,
        )

    def _answered(self, name: str, attempt: int, answers: list[Answer]) -> None:
        if name not in self._tokens:
            return
        entries = read_answers(answers, self._realm)
        before = self._entries.get(name, {})
        self._entries[name] = entries
        self._tell("removed", [entry for instance, entry in before.items() if instance not in entries])
        self._tell("added", [entry for instance, entry in entries.items() if instance not in before])
        if not entries:
            delay = min(AGAIN_SECONDS[0] * 2.0**attempt, AGAIN_SECONDS[1])
            self._later(delay, partial(self._ask_again, name, attempt + 1))

    def _ask_again(self, name: str, attempt: int) -> None:
        if name in self._tokens and not self._entries.get(name) and name not in self._our_names():
            self._ask(name, attempt)


_told: set[str] = set()


def _tell_once(entry: LegacyEntry) -> None:
    if entry.obstacle not in _told:
        _told.add(entry.obstacle)
        log.warning("HERO %r and perhaps others cannot be used: %s", entry.name, entry.obstacle)
