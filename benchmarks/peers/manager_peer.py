"""``multiprocessing``: the proxy of a manager's object over a unix socket; numpy arrays, pickled."""

from __future__ import annotations

import functools
import platform
import threading
from collections.abc import Callable
from multiprocessing.managers import BaseManager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peer import Client, Server, checksum, content, main

Array = NDArray[np.uint8]


@functools.cache
def array(nbytes: int) -> Array:
    return np.frombuffer(content(nbytes), np.uint8).copy()


class Bench:
    def add(self, a: int, b: int) -> int:
        return a + b

    def get(self, nbytes: int) -> Array:
        return array(nbytes)

    def take(self, given: Array) -> int:
        return checksum(given)


class Manager(BaseManager):
    pass


Manager.register("Bench", Bench)


class ManagerServer(Server):
    def open(self) -> None:
        server = Manager(f"{self.directory}/manager", b"bench").get_server()
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def versions(self) -> dict[str, str]:
        return {"python": platform.python_version()}


class ManagerClient(Client):
    def open(self) -> None:
        manager = Manager(f"{self.directory}/manager", b"bench")
        manager.connect()
        self._bench: Any = manager.Bench()  # type: ignore[attr-defined]

    def versions(self) -> dict[str, str]:
        return {"python": platform.python_version()}

    def adder(self) -> Callable[[int, int], int]:
        return self._bench.add  # type: ignore[no-any-return]

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        if memory != "ordinary":
            raise NotImplementedError
        return functools.partial(self._bench.get, nbytes)

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        if memory != "ordinary":
            raise NotImplementedError
        return functools.partial(self._bench.take, array(nbytes))


main(ManagerServer, ManagerClient)
