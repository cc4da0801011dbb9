"""iceoryx2: request and response, publish and subscribe, in shared memory; both sides poll while a case is measured.

A call is eight bytes each way. ``ordinary`` copies an array into memory that was loaned, ``pooled`` only writes the two
ends of the loan, as if it had been filled in place.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import iceoryx2 as iox2
from peer import FIRST, LAST, Client, Loop, Peer, Server, checksum, content, main

WORD = ctypes.c_uint64
BYTES = iox2.Slice[ctypes.c_uint8]
LARGEST = 32 << 20
SMALL, LARGE = 64, 1 << 20
"""Sizes of the samples, which have a service each, as memory is set aside for the longest sample."""


def fill(loan: Any, nbytes: int, memory: str) -> Any:
    """Write the array, or its two ends, into a loan."""
    address = loan.payload().as_ptr()
    if memory == "ordinary":
        ctypes.memmove(address, content(nbytes), nbytes)
    else:
        view = (ctypes.c_uint8 * nbytes).from_address(address)
        view[0], view[-1] = FIRST, LAST
    return loan.assume_init()


def array(owner: Any) -> Any:
    """The payload in place, kept alive; the binding's own memoryview has a format that cannot be indexed."""
    payload = owner.payload()
    view = (ctypes.c_uint8 * payload.len()).from_address(payload.as_ptr())
    view.owner = owner  # type: ignore[attr-defined]
    return view


class Services(Peer):
    """The services, which both sides open."""

    distributions = ("iceoryx2",)

    def open(self) -> None:
        iox2.set_log_level(iox2.LogLevel.Error)
        config = iox2.config.default()
        # Nobody else's nodes and services; by the prefix the driver finds what is left of ours in the end.
        config.global_cfg.prefix = iox2.FileName.new(f"{os.path.basename(self.directory)}_")
        config.global_cfg.root_path = iox2.Path.new(f"{self.directory}/iceoryx2")
        node = iox2.NodeBuilder.new().config(config)
        self.node = node.signal_handling_mode(iox2.SignalHandlingMode.Disabled).create(iox2.ServiceType.Ipc)

        def calls(name: str, request: Any, response: Any) -> Any:
            builder = self.node.service_builder(iox2.ServiceName.new(name))
            return builder.request_response(request, response).open_or_create()

        self.add, self.get, self.take = calls("add", WORD, WORD), calls("get", WORD, BYTES), calls("take", BYTES, WORD)

        def events(nbytes: int) -> Any:
            builder = self.node.service_builder(iox2.ServiceName.new(f"sample/{nbytes}")).publish_subscribe(BYTES)
            # A queue as long as this package's pool, and a publisher that waits for room in it: nothing is lost.
            return builder.enable_safe_overflow(False).subscriber_max_buffer_size(64).open_or_create()

        self.samples = {nbytes: events(nbytes) for nbytes in (SMALL, LARGE)}


class IceoryxServer(Services, Server):
    def open(self) -> None:
        super().open()
        self._adds = self.add.server_builder().create()
        self._gets = self.get.server_builder().initial_max_slice_len(LARGEST).create()
        self._takes = self.take.server_builder().create()
        self._publishers = {
            nbytes: service.publisher_builder().initial_max_slice_len(nbytes).create()
            for nbytes, service in self.samples.items()
        }
        self._loop = Loop()

    def close(self) -> None:
        self._loop.close()
        for port in (self._adds, self._gets, self._takes, *self._publishers.values()):
            port.delete()

    def begin(self, kind: str, memory: str) -> None:
        steps = {
            "call": self._answer_add,
            "result": functools.partial(self._answer_get, memory),
            "argument": self._answer_take,
        }
        if kind in steps:
            self._loop.begin(steps[kind])

    def end(self) -> None:
        self._loop.end()

    def _answer_add(self) -> None:
        if (request := self._adds.receive()) is not None:
            both = request.payload().contents.value
            request.send_copy(WORD((both >> 32) + (both & 0xFFFF_FFFF)))

    def _answer_get(self, memory: str) -> None:
        if (request := self._gets.receive()) is not None:
            nbytes = request.payload().contents.value
            fill(request.loan_slice_uninit(nbytes), nbytes, memory).send()

    def _answer_take(self) -> None:
        if (request := self._takes.receive()) is not None:
            request.send_copy(WORD(checksum(array(request))))

    def publisher(self, nbytes: int, memory: str) -> Callable[[], None]:
        if nbytes not in self._publishers:
            raise NotImplementedError
        loan = self._publishers[nbytes].loan_slice_uninit
        return lambda: fill(loan(nbytes), nbytes, memory).send()  # type: ignore[no-any-return]


class IceoryxClient(Services, Client):
    def open(self) -> None:
        super().open()
        self._adds = self.add.client_builder().create()
        self._gets = self.get.client_builder().create()
        self._takes = self.take.client_builder().initial_max_slice_len(LARGEST).create()

    def close(self) -> None:
        for port in (self._adds, self._gets, self._takes):
            port.delete()

    def adder(self) -> Callable[[int, int], int]:
        send = self._adds.send_copy

        def add(a: int, b: int) -> int:
            receive = send(WORD(a << 32 | b)).receive
            while (response := receive()) is None:
                pass
            return response.payload().contents.value  # type: ignore[no-any-return]

        return add

    def getter(self, nbytes: int, memory: str) -> Callable[[], Any]:
        send = self._gets.send_copy

        def get() -> Any:
            pending = send(WORD(nbytes))
            while (response := pending.receive()) is None:
                pass
            return array(response)

        return get

    def giver(self, nbytes: int, memory: str) -> Callable[[], int]:
        loan = self._takes.loan_slice_uninit

        def give() -> int:
            pending = fill(loan(nbytes), nbytes, memory).send()
            while (response := pending.receive()) is None:
                pass
            return response.payload().contents.value  # type: ignore[no-any-return]

        return give

    def subscriber(self, nbytes: int, memory: str, callback: Callable[[Any], None]) -> Callable[[], None]:
        if nbytes not in self.samples:
            raise NotImplementedError
        ends = threading.Event()
        subscriber = self.samples[nbytes].subscriber_builder().create()

        def follow() -> None:
            receive, over = subscriber.receive, ends.is_set
            while not over():
                if (sample := receive()) is not None:
                    callback(array(sample))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()

        def end() -> None:
            ends.set()
            thread.join()
            subscriber.delete()

        return end


main(IceoryxServer, IceoryxClient)
