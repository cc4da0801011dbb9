"""The HEROs that the tests use, and the program that offers them: ``python lab.py REALM``."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import heros
from heros import LocalHERO, event
from heros.event import reliable
from heros.inspect import force_remote, local_only


class Opaque:
    """Has no serialised form."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __str__(self) -> str:
        return f"opaque {self.label}"


class Slotted:
    """Has no serialised form, and allows no weak reference."""

    __slots__ = ()


class Instrument(LocalHERO):
    """An instrument with a bit of everything."""

    exposure: float = 0.01
    frames: int
    handler: Callable[[int], int]
    partner: Any = None
    _hero_tags = ("from-class",)

    def __init__(self, name: str, realm: str) -> None:
        self.frames = 7
        self.handler = lambda n: n + 1
        self.kept = Opaque("one")
        self.received: list[Any] = []
        self.busy = threading.Event()
        self.go = threading.Event()
        super().__init__(name, realm=realm, tags=["camera"], implements=["tests.Instrument"], extra_metadata={"a": "b"})

    def add(self, a: int, b: int = 2, *, c: int = 0) -> int:
        """Add numbers."""
        return a + b + c

    def echo(self, value: Any = None) -> Any:
        return value

    def raise_it(self, name: str, text: str = "on purpose") -> None:
        raise {"ValueError": ValueError, "SystemExit": SystemExit, "KeyError": KeyError, "Own": Own}[name](text)

    def open(self, path: str) -> None:
        open(path).close()

    def image(self, nbytes: int) -> np.ndarray:
        return np.arange(nbytes, dtype=np.uint8)

    def total(self, array: np.ndarray) -> int:
        return int(array.sum())

    def opaque(self) -> Opaque:
        return self.kept

    def label_of(self, thing: Opaque) -> str:
        return thing.label

    def lose_opaque(self) -> None:
        self.kept = None

    def slotted(self) -> Slotted:
        return Slotted()

    def is_slotted(self, thing: Any) -> bool:
        return isinstance(thing, Slotted)

    def myself(self) -> Instrument:
        return self

    def my_method(self) -> Callable[..., int]:
        return self.add

    def call_partner(self, n: int) -> int:
        return self.partner.ping(n) if n else 0

    def ping(self, n: int) -> int:
        return 1 + self.partner.call_partner(n - 1)

    def use(self, other: Any, method: Callable[..., Any]) -> Any:
        return other.echo("through an argument"), method(1)

    def take(self, value: Any) -> None:
        self.received.append(value)

    def taken(self) -> list[Any]:
        return self.received

    def wait(self) -> str:
        self.busy.set()
        self.go.wait(30)
        return "waited"

    def wait_until_busy(self) -> bool:
        return self.busy.wait(10)

    def let_go(self) -> None:
        self.go.set()

    def fire(self, count: int) -> int:
        for number in range(count):
            self.tick(number)
        return count

    def fire_reliably(self, count: int) -> int:
        for number in range(count):
            self.surely(number)
        return count

    def set_state(self, state: str) -> None:
        self.state(state)

    def pid(self) -> int:
        return os.getpid()

    def threads(self) -> int:
        return threading.active_count()

    def die(self) -> None:
        os._exit(3)

    @property
    def serial(self) -> str:
        """Printed on the back."""
        return "S-1"

    @property
    def broken(self) -> float:
        self.reads = getattr(self, "reads", 0) + 1
        return self.no_such_part

    def reads_of_broken(self) -> int:
        return self.reads

    def keywords(self, /, **keywords: Any) -> dict[str, Any]:
        return keywords

    @property
    def gain(self) -> float:
        return 2.0

    @gain.setter
    def gain(self, value: float) -> None:
        raise ValueError(f"gain {value} is out of range")

    @event
    def tick(self, value: Any) -> Any:
        """Published for every tick."""
        return value

    @reliable
    @event
    def surely(self, value: Any) -> Any:
        return value

    @event(keep=1)
    def state(self, value: Any) -> Any:
        return value

    @local_only
    def secret(self) -> None: ...

    @force_remote
    def _calibrate(self) -> str:
        return "calibrated"

    def _private(self) -> None: ...


class Own(Exception):
    pass


class Careful(LocalHERO):
    """One call at a time."""

    _hero_concurrency = "object"

    def __init__(self, name: str, realm: str) -> None:
        self.inside = 0
        self.most = 0
        super().__init__(name, realm=realm)

    def one(self) -> int:
        return self._count()

    def other(self) -> int:
        return self._count()

    def _count(self) -> int:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.001)  # an instrument takes its time
        self.inside -= 1
        return self.most


def main(realm: str) -> None:
    one = Instrument("one", realm)
    two = Instrument("two", realm)
    one.partner, two.partner = two, heros.RemoteHERO("one", realm)
    Careful("careful", realm)
    print("READY", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
