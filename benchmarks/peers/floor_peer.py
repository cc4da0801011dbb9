"""What nothing can beat: a bare round trip between two processes, and one copy of an array in memory.

With the option ``spin`` the round trip is a word in shared memory that both sides watch in pure Python without ever
sleeping; otherwise it is a pair of eventfds. The array is copied by the client alone, into memory that was touched.
"""

from __future__ import annotations

import mmap
import os
import platform
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from peer import Client, Loop, Server, checksum, content, main

ASK, REPLY = 0, 16
"""Indices of two 64-bit words on cache lines of their own."""


def words(directory: str) -> memoryview:
    with open(f"{directory}/words", "a+b") as file:
        file.truncate(mmap.PAGESIZE)
        return memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")


class FloorServer(Server):
    def open(self) -> None:
        self._words = words(self.directory)
        self._loop = Loop()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.directory}/floor")
        listener.listen()
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def close(self) -> None:
        self._loop.close()

    @staticmethod
    def _serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        _, (ask, reply), _, _ = socket.recv_fds(connection, 1, 2)
        while True:
            os.eventfd_write(reply, os.eventfd_read(ask))

    def begin(self, kind: str, memory: str) -> None:
        if self.options["spin"] and kind == "call":
            self._loop.begin(self._answer)

    def end(self) -> None:
        self._loop.end()

    def _answer(self) -> None:
        """Looks a thousand times, so that the loop around it does not count."""
        memory, seen = self._words, self._words[REPLY]
        for _ in range(1000):
            if memory[ASK] != seen:
                seen = memory[ASK]
                memory[REPLY] = seen

    def versions(self) -> dict[str, str]:
        return {"python": platform.python_version()}


class FloorClient(Client):
    def open(self) -> None:
        self._words = words(self.directory)
        self._ask, self._reply = os.eventfd(0), os.eventfd(0)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{self.directory}/floor")
            socket.send_fds(connection, [b"!"], [self._ask, self._reply])

    def versions(self) -> dict[str, str]:
        return {"python": platform.python_version()}

    def adder(self) -> Callable[[int, int], int]:
        return self._spin if self.options["spin"] else self._ring

    def _ring(self, a: int, b: int) -> int:
        os.eventfd_write(self._ask, a + b)
        return os.eventfd_read(self._reply)

    def _spin(self, a: int, b: int) -> int:
        memory = self._words
        memory[ASK] = number = memory[ASK] + 1
        while memory[REPLY] != number:
            pass
        return a + b

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        if self.options["spin"] or memory != "ordinary":
            raise NotImplementedError
        source = np.frombuffer(content(nbytes), np.uint8).copy()
        target = np.zeros_like(source)
        target.fill(1)

        def copy() -> Any:
            np.copyto(target, source)
            return target

        return copy

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        copy = self.getter(nbytes, memory)
        return lambda: checksum(copy())


main(FloorServer, FloorClient)
