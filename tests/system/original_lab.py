"""HEROs of the original package: run by its own Python, as ``original_lab.py REALM NAME ...``.

``NAME`` is an instrument; ``source:NAME`` is a datasource. Lines on standard input: ``create NAME``, ``destroy NAME``,
``fire NAME``.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np

from heros import LocalDatasourceHERO, LocalHERO, RemoteHERO, event
from heros.event import reliable


class Opaque:
    def __init__(self, label):
        self.label = label

    def __str__(self):
        return f"opaque {self.label}"


class Instrument(LocalHERO):
    exposure: float = 0.01
    partner: LocalHERO = None
    handle: Opaque = None
    _hero_tags = ["from-class"]  # noqa: RUF012

    def __init__(self, name, realm):
        self.handle = Opaque("one")
        self.received = []
        self.busy = threading.Event()
        self.go = threading.Event()
        super().__init__(name, realm=realm, tags=["camera"], implements=["tests.Instrument"], extra_metadata={"a": "b"})

    def add(self, a: int, b: int = 2, *, c: int = 0) -> int:
        return a + b + c

    def echo(self, value=None):
        return value

    def kind_of(self, value):
        return type(value).__name__

    def raise_it(self, kind, text="on purpose"):
        raise {"ValueError": ValueError, "KeyError": KeyError, "Own": Own}[kind](text)

    def image(self, nbytes):
        return (np.arange(nbytes) % 251).astype(np.uint8)

    def total(self, array):
        return int(array.sum())

    def sleep(self, seconds):
        time.sleep(seconds)
        return seconds

    def opaque(self):
        return self.handle

    def label_of(self, thing):
        return thing.label

    def myself(self):
        return self

    def set_partner(self, other):
        self.partner = other

    def call_partner(self, value):
        return self.partner.take(value)

    def use(self, other, method):
        return other.echo("through an argument"), method(1)

    def take(self, value):
        self.received.append(value)

    def taken(self):
        return self.received

    def wait(self):
        self.busy.set()
        self.go.wait(60)
        return "waited"

    def wait_until_busy(self):
        return self.busy.wait(20)

    def let_go(self):
        self.go.set()

    def fire(self, count):
        for number in range(count):
            self.tick(number)

    def fire_value(self, value):
        self.tick(value)

    def fire_images(self, count, nbytes):
        for number in range(count):
            self.tick(np.full(nbytes, number, np.uint8))

    def attach(self, name, method):
        """As an old program does: a method of another HERO at an event of a third."""
        return RemoteHERO(name, self._realm).tick.connect(getattr(RemoteHERO(method, self._realm), "take"))  # noqa: B009

    def pid(self):
        return os.getpid()

    def silent(self):
        raise SystemExit

    @property
    def gain(self) -> float:
        return 2.0

    @gain.setter
    def gain(self, value):
        raise ValueError(f"gain {value} is out of range")

    @reliable  # of others, zenoh loses a large one now and then when the machine is busy
    @event
    def tick(self, value):
        return value


class Own(Exception):
    pass


class Source(LocalDatasourceHERO):
    def __init__(self, name, realm):
        observables = {"temperature": {"raw_unit": "V", "unit": "degC", "conversion": "100*x - 50"}}
        super().__init__(name, realm=realm, observables=observables)

    def measure(self, value):
        self.observable_data({"temperature": (value, "V")})


def create(name, realm):
    return Source(name[7:], realm) if name.startswith("source:") else Instrument(name, realm)


def main(realm, *names):
    heros = {name: create(name, realm) for name in names}
    print("READY", flush=True)
    for line in sys.stdin:
        command, name = line.split()
        if command == "create":
            heros[name] = create(name, realm)
        elif command == "destroy":
            heros.pop(name)._destroy_hero()
        elif command == "fire":
            heros[name].tick("fired")
        print("DONE", flush=True)
    os._exit(0)  # whatever a method is still at


if __name__ == "__main__":
    main(*sys.argv[1:])
