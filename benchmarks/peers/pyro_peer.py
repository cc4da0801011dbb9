"""Pyro5 over a unix socket with the msgpack serializer; arrays travel as ``bytes``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import Pyro5.api
import Pyro5.server
from peer import Client, Server, checksum, content, main

Pyro5.config.SERIALIZER = "msgpack"


@Pyro5.api.expose
class Bench:
    def add(self, a: int, b: int) -> int:
        return a + b

    def get(self, nbytes: int) -> bytes:
        return content(nbytes)

    def take(self, array: bytes) -> int:
        return checksum(array)


class PyroServer(Server):
    distributions = ("Pyro5", "msgpack")

    def open(self) -> None:
        self._daemon = Pyro5.server.Daemon(unixsocket=f"{self.directory}/pyro")
        self._daemon.register(Bench(), "bench")
        threading.Thread(target=self._daemon.requestLoop, daemon=True).start()

    def close(self) -> None:
        self._daemon.shutdown()


class PyroClient(Client):
    distributions = ("Pyro5", "msgpack")

    def open(self) -> None:
        self._bench: Any = Pyro5.api.Proxy(f"PYRO:bench@./u:{self.directory}/pyro")

    def close(self) -> None:
        self._bench._pyroRelease()

    def adder(self) -> Callable[[int, int], int]:
        return self._bench.add  # type: ignore[no-any-return]

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        if memory != "ordinary":
            raise NotImplementedError
        return functools.partial(self._bench.get, nbytes)

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        if memory != "ordinary":
            raise NotImplementedError
        return functools.partial(self._bench.take, content(nbytes))


main(PyroServer, PyroClient)
