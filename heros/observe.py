"""Observers: which HEROs there are, and one event of many HEROs at once."""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from heros import directory, limits
from heros.entry import Entry, check_name
from heros.exceptions import HEROSError
from heros.inspect import local_only
from heros.node import current
from heros.peer import HEROPeer, describe_entry
from heros.remote import RemoteHERO
from heros.subscription import Subscription

__all__ = ["EventObserver", "HEROObserver"]

log = logging.getLogger("heros.observe")

RETRY_SECONDS: Final = 1.0
"""Until a HERO that is there, but could not be reached, is tried again: it may be starting, or stopped for long."""


def _look(watch: directory.Watch, who: str) -> None:
    """Return when ``watch`` has told of the HEROs that are there, or after a while."""
    if not watch.look(limits.DISCOVERY_SECONDS):
        log.warning("%s: some of the HEROs that are there do not answer; they are added when they do", who)


def _check_callback(func: object) -> None:
    if not callable(func):
        raise TypeError(f"a callback must be callable; {func!r} is not")


class HEROObserver(HEROPeer):
    """Keeps track of the HEROs of a realm, on this host and on the network.

    Args:
        realm: the realm to observe.
        session_manager: accepted for existing programs.

    Attributes:
        known_objects: name to descriptor (``proto_version``, ``name``, ``class``, ``implements``, ``tags``,
            ``extra_metadata``) of every HERO that is there now. Filled when the constructor returns.

    Callbacks run on a worker thread, one at a time.
    """

    def __init__(self, realm: str = "heros", session_manager: Any = None) -> None:
        HEROPeer.__init__(self, realm, session_manager)
        self._lock = threading.Lock()
        self._added: list[Callable[[str], object]] = []
        self._removed: list[Callable[[str], object]] = []
        self._instances: dict[str, Entry] = {}
        self.known_objects: dict[str, dict[str, Any]] = {}
        self._watch = directory.Watch(current(), realm, self._came, self._went)
        _look(self._watch, f"HEROObserver of realm {realm}")

    def _know(self, entry: Entry) -> bool:
        """With the lock: note a HERO; returns whether it is new. ``known_objects`` is replaced and not changed, so
        that whoever iterates over it is not disturbed."""
        known = entry.instance in self._instances
        self._instances[entry.instance] = entry
        self.known_objects = {**self.known_objects, entry.name: describe_entry(entry)}
        return not known

    def _came(self, entry: Entry) -> None:
        with self._lock:
            new = self._know(entry)
        if new:
            self._tell(self._added, entry.name)

    def _went(self, entry: Entry) -> None:
        with self._lock:
            self._instances.pop(entry.instance, None)
            others = [each for each in self._instances.values() if each.name == entry.name]
            if others:  # restarted, or a duplicate name: it is still there
                self._know(others[-1])
                return
            self.known_objects = {name: known for name, known in self.known_objects.items() if name != entry.name}
        self._tell(self._removed, entry.name)

    @staticmethod
    def _tell(callbacks: list[Callable[[str], object]], name: str) -> None:
        for callback in tuple(callbacks):
            try:
                callback(name)
            except Exception:
                log.exception("A callback of a HEROObserver failed for HERO %s; it stays registered", name)

    def register_object_added_callback(self, func: Callable[[str], object]) -> None:
        """Have ``func`` called with the name of each HERO that appears from now on. Thread-safe.

        Raises:
            TypeError: it is not callable.
        """
        _check_callback(func)
        with self._lock:
            if func not in self._added:
                self._added.append(func)

    def register_object_removed_callback(self, func: Callable[[str], object]) -> None:
        """Have ``func`` called with the name of each HERO that disappears. Thread-safe.

        Raises:
            TypeError: it is not callable.
        """
        _check_callback(func)
        with self._lock:
            if func not in self._removed:
                self._removed.append(func)

    def get_object(self, object_name: str) -> RemoteHERO:
        """A proxy of a known HERO.

        Raises:
            AttributeError: there is no HERO of this name now.
        """
        if object_name not in self.known_objects:
            known = ", ".join(sorted(self.known_objects)) or "none"
            raise AttributeError(f"there is no HERO {object_name!r} in realm {self._realm!r}; known are: {known}")
        return RemoteHERO(object_name, self._realm)

    @local_only
    def _destroy_hero(self) -> None:
        """Stop observing."""
        super()._destroy_hero()

    def _hero_leave(self) -> None:
        self._watch.close()
        super()._hero_leave()


class EventObserver(HEROPeer):
    """Receives one event of one or many HEROs, also of those that appear later.

    Args:
        object_selector: the name of a HERO, or a pattern in which ``*`` stands for any text; ``"*"`` selects all.
        event_name: the event; HEROs without it are left alone.
        realm: the realm to observe.
        session_manager: accepted for existing programs.

    Raises:
        ValueError: an impossible name.
        TypeError: a name that is no text.

    Callbacks get ``(object name, data)``, on a worker thread, in order and one at a time for each HERO. One that raises
    is logged and stays registered. The HEROs that are there when the first one is registered are followed from then
    on: ``register_callback`` waits for that, as long as a lookup may take; what does not answer follows later, with a
    message in the log.
    """

    def __init__(
        self, object_selector: str, event_name: str, realm: str = "heros", session_manager: Any = None
    ) -> None:
        HEROPeer.__init__(self, realm, session_manager)
        names: tuple[object, ...] = object_selector, event_name
        if not all(isinstance(name, str) for name in names):
            raise TypeError(
                "an EventObserver takes the name of a HERO, or a pattern with *, and the name of an event; not "
                f"{object_selector!r} and {event_name!r}"
            )
        check_name(object_selector.replace("$*", "*").replace("*", "x"))
        if not event_name.isidentifier():
            raise ValueError(f"{event_name!r} cannot name an event")
        self._object_selector = object_selector
        self._event_name = event_name
        parts = object_selector.replace("$*", "*").split("*")
        self._selected = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
        self._event_callbacks: dict[str, Callable[[str, Any], object]] = {}
        self._lock = threading.Lock()
        self._subscriptions: dict[str, Subscription] = {}
        self._former: dict[str, Subscription] = {}
        self._instances: dict[str, set[str]] = {}
        self._looked = False
        self._watch = directory.Watch(current(), realm, self._came, self._went)

    @property
    def missed(self) -> dict[str, int]:
        """Samples that were published and not received, by HERO, since each was first seen."""
        with self._lock:
            subscriptions = self._former | self._subscriptions
        return {name: subscription.missed for name, subscription in subscriptions.items()}

    def _came(self, entry: Entry) -> None:
        if not self._selected.fullmatch(entry.name):
            return
        with self._lock:
            self._instances.setdefault(entry.name, set()).add(entry.instance)
        self._observe(entry)

    def _observe(self, entry: Entry, told: str = "") -> None:
        """Subscribe to a HERO that is there; try again later if it cannot be reached.

        Args:
            told: why it could not be reached the last time, which the log says already.
        """
        with self._lock:
            if not self._is_wanted(entry):
                return
            if entry.name in self._subscriptions:
                return  # a successor of one that is known: its subscription finds it by itself
        node = current()
        deliver = partial(self._handle_event, entry.name)
        former = self._former.get(entry.name)
        subscription = Subscription(node, self._realm, entry.name, self._event_name, deliver, former)
        try:
            bound = node.bind(self._realm, entry.name)
            if self._event_name not in bound.members:
                return
            subscription.open(bound)
        except HEROSError as error:
            if str(error) != told:
                log.info("Event %s of HERO %s cannot be observed yet: %s", self._event_name, entry.name, error)
            subscription.close()
            node.workers.call_later(RETRY_SECONDS, partial(self._observe, entry, str(error)))
            return
        with self._lock:  # all of it may have changed meanwhile
            keep = self._is_wanted(entry) and entry.name not in self._subscriptions
            if keep:
                self._subscriptions[entry.name] = subscription
        if not keep:
            subscription.close()

    def _is_wanted(self, entry: Entry) -> bool:
        return not self._hero_destroyed and entry.instance in self._instances.get(entry.name, ())

    def _went(self, entry: Entry) -> None:
        with self._lock:
            instances = self._instances.get(entry.name, set())
            instances.discard(entry.instance)
            if instances:
                return  # its successor is there already
            self._instances.pop(entry.name, None)
            subscription = self._subscriptions.pop(entry.name, None)
            if subscription is not None:
                subscription.close()
                self._former[entry.name] = subscription

    def _handle_event(self, object_name: str, data: Any) -> None:
        for uid, callback in tuple(self._event_callbacks.items()):
            try:
                callback(object_name, data)
            except Exception:
                log.exception(
                    "Callback %s of an EventObserver failed for HERO %s; it stays registered", uid, object_name
                )

    def register_callback(self, func: Callable[[str, Any], object]) -> str | bool:
        """Have ``func`` called with every value. Returns its uid, or False if it was registered already.

        Thread-safe.

        Raises:
            TypeError: it is not callable.
        """
        _check_callback(func)
        with self._lock:
            if func in self._event_callbacks.values():
                return False
            uid = str(uuid.uuid4())
            self._event_callbacks[uid] = func
            looked, self._looked = self._looked, True
        if not looked:
            _look(self._watch, f"{type(self).__name__} of {self._event_name}")
        return uid

    def remove_callback(self, func: Callable[[str, Any], object]) -> bool:
        """Undo ``register_callback``; returns whether it was registered. Thread-safe."""
        with self._lock:
            found = [uid for uid, callback in self._event_callbacks.items() if callback == func]
            for uid in found:
                del self._event_callbacks[uid]
            return bool(found)

    def remove_callback_uid(self, uid: str) -> bool:
        """Undo ``register_callback`` by its uid. Raises ``KeyError`` for an unknown one. Thread-safe."""
        with self._lock:
            del self._event_callbacks[uid]
            return True

    @local_only
    def _destroy_hero(self) -> None:
        """Stop observing."""
        super()._destroy_hero()

    def _hero_leave(self) -> None:
        self._watch.close()
        with self._lock:
            subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            subscription.close()
        super()._hero_leave()
