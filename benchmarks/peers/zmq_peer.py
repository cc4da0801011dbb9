"""pyzmq: REQ and REP with msgpack, arrays as a second part that is not copied by Python, events by PUB and SUB; ipc."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import msgpack
import zmq
from peer import Client, Server, checksum, content, main

LARGE = 64 << 10
"""From here on a message is not copied into a ``bytes``: pyzmq's own threshold."""


def ordinary_only(memory: str) -> None:
    if memory != "ordinary":
        raise NotImplementedError


class ZMQServer(Server):
    distributions = ("pyzmq", "msgpack")

    def open(self) -> None:
        self._context = zmq.Context()
        self._publisher = self._context.socket(zmq.PUB)
        self._publisher.setsockopt(zmq.LINGER, 0)
        self._publisher.bind(f"ipc://{self.directory}/events")
        bound = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(bound,), daemon=True)
        self._thread.start()
        bound.wait()

    def close(self) -> None:
        self._publisher.close()
        self._context.term()  # which ends the thread
        self._thread.join()

    def _serve(self, bound: threading.Event) -> None:
        socket = self._context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(f"ipc://{self.directory}/calls")
        bound.set()
        try:
            while True:
                name, arguments = msgpack.unpackb(socket.recv())
                if name == "add":
                    socket.send(msgpack.packb(arguments[0] + arguments[1]))
                elif name == "get":
                    socket.send(msgpack.packb(arguments[0]), zmq.SNDMORE)
                    socket.send(content(arguments[0]), copy=False)
                elif name == "take":
                    socket.send(msgpack.packb(checksum(socket.recv(copy=False).buffer)))
        except zmq.ContextTerminated:
            socket.close()

    def publisher(self, nbytes: int, memory: str) -> Callable[[], None]:
        ordinary_only(memory)
        return functools.partial(self._publisher.send, content(nbytes), copy=nbytes < LARGE)


class ZMQClient(Client):
    distributions = ("pyzmq", "msgpack")

    def open(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"ipc://{self.directory}/calls")

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def adder(self) -> Callable[[int, int], int]:
        send, receive, pack, unpack = self._socket.send, self._socket.recv, msgpack.packb, msgpack.unpackb

        def add(a: int, b: int) -> int:
            send(pack(("add", (a, b))))
            return unpack(receive())  # type: ignore[no-any-return]

        return add

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        ordinary_only(memory)
        socket = self._socket

        def get() -> Any:
            socket.send(msgpack.packb(("get", (nbytes,))))
            msgpack.unpackb(socket.recv())
            return socket.recv(copy=False).buffer

        return get

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        ordinary_only(memory)
        socket, array = self._socket, content(nbytes)

        def give() -> int:
            socket.send(msgpack.packb(("take", ())), zmq.SNDMORE)
            socket.send(array, copy=False)
            return msgpack.unpackb(socket.recv())  # type: ignore[no-any-return]

        return give

    def subscriber(self, nbytes: int, memory: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        ordinary_only(memory)
        ends = threading.Event()

        def follow() -> None:
            socket = self._context.socket(zmq.SUB)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, 100)
            if nbytes >= LARGE:
                socket.setsockopt(zmq.RCVHWM, 64)  # the default, 1000, would be a gigabyte of frames in its queue
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(f"ipc://{self.directory}/events")
            while not ends.is_set():
                try:
                    callback(socket.recv() if nbytes < LARGE else socket.recv(copy=False).buffer)
                except zmq.Again:
                    pass
            socket.close()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()

        def end() -> None:
            ends.set()
            thread.join()

        return end


main(ZMQServer, ZMQClient)
