"""RPyC over a unix socket, in its faster ways.

The remote method is looked up once and kept (``conn.root.add`` each time costs twice as much), arrays travel as
``bytes``, by value, and the compression of everything above 3,000 bytes is switched off: noise does not get smaller.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import rpyc
from peer import Client, Server, checksum, content, main
from rpyc.core.channel import Channel
from rpyc.utils.factory import unix_connect
from rpyc.utils.server import ThreadedServer

Channel.COMPRESSION_THRESHOLD = 1 << 62


class Bench(rpyc.Service):
    def exposed_add(self, a: int, b: int) -> int:
        return a + b

    def exposed_get(self, nbytes: int) -> bytes:
        return content(nbytes)

    def exposed_take(self, array: bytes) -> int:
        return checksum(array)


class RPyCServer(Server):
    distributions = ("rpyc",)

    def open(self) -> None:
        self._server = ThreadedServer(Bench, socket_path=f"{self.directory}/rpyc")
        threading.Thread(target=self._server.start, daemon=True).start()

    def close(self) -> None:
        self._server.close()


class RPyCClient(Client):
    distributions = ("rpyc",)

    def open(self) -> None:
        self._connection = unix_connect(f"{self.directory}/rpyc")
        root = self._connection.root
        self._add, self._get, self._take = root.add, root.get, root.take

    def close(self) -> None:
        self._connection.close()

    def adder(self) -> Callable[[int, int], int]:
        return self._add  # type: ignore[no-any-return]

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        if memory != "ordinary":
            raise NotImplementedError
        return functools.partial(self._get, nbytes)

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        if memory != "ordinary":
            raise NotImplementedError
        return functools.partial(self._take, content(nbytes))


main(RPyCServer, RPyCClient)
