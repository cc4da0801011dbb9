"""Bare zenoh: a queryable and ``get``, a publisher and a subscriber, over loopback TCP."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

import zenoh
from peer import Client, Server, checksum, content, main

TWO, ONE = struct.Struct("<qq"), struct.Struct("<q")


def ordinary_only(memory: str) -> None:
    if memory != "ordinary":
        raise NotImplementedError  # zenoh's own shared memory is switched off here


class ZenohServer(Server):
    distributions = ("eclipse-zenoh",)

    def open(self) -> None:
        self._session = zenoh.open(zenoh.Config.from_json5(self.options["zenoh"]))
        self._publisher = self._session.declare_publisher("bench/sample")
        answers: dict[str, Callable[[bytes], bytes]] = {"add": self._add, "get": self._get, "take": self._take}
        self._queryables = [
            self._session.declare_queryable(f"bench/{name}", functools.partial(self._reply, f"bench/{name}", answer))
            for name, answer in answers.items()
        ]

    def close(self) -> None:
        self._session.close()

    @staticmethod
    def _reply(key: str, answer: Callable[[bytes], bytes], query: Any) -> None:
        query.reply(key, answer(query.payload.to_bytes()))

    @staticmethod
    def _add(payload: bytes) -> bytes:
        a, b = TWO.unpack(payload)
        return ONE.pack(a + b)

    @staticmethod
    def _get(payload: bytes) -> bytes:
        return content(ONE.unpack(payload)[0])

    @staticmethod
    def _take(payload: bytes) -> bytes:
        return ONE.pack(checksum(payload))

    def publisher(self, nbytes: int, memory: str) -> Callable[[], None]:
        ordinary_only(memory)
        return functools.partial(self._publisher.put, content(nbytes))


class ZenohClient(Client):
    distributions = ("eclipse-zenoh",)

    def open(self) -> None:
        self._session = zenoh.open(zenoh.Config.from_json5(self.options["zenoh"]))

    def close(self) -> None:
        self._session.close()

    def _ask(self, key: str, payload: bytes) -> bytes:
        for reply in self._session.get(key, payload=payload):
            if reply.ok is None:
                raise RuntimeError(reply.err.payload.to_string())
            answer: bytes = reply.ok.payload.to_bytes()
            return answer
        raise RuntimeError(f"nobody answers to {key}")

    def adder(self) -> Callable[[int, int], int]:
        ask, pack, unpack = self._ask, TWO.pack, ONE.unpack

        def add(a: int, b: int) -> int:
            return unpack(ask("bench/add", pack(a, b)))[0]  # type: ignore[no-any-return]

        return add

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        ordinary_only(memory)
        return functools.partial(self._ask, "bench/get", ONE.pack(nbytes))

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        ordinary_only(memory)
        array = content(nbytes)
        return lambda: int(ONE.unpack(self._ask("bench/take", array))[0])

    def subscriber(self, nbytes: int, memory: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        ordinary_only(memory)
        subscription = self._session.declare_subscriber(
            "bench/sample", lambda sample: callback(sample.payload.to_bytes())
        )
        return subscription.undeclare  # type: ignore[no-any-return]


main(ZenohServer, ZenohClient)
