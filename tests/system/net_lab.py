"""A realm of its own for one test: this process listens, others connect to it."""

from __future__ import annotations

import uuid

import pytest

from heros.demo.loopback import free_port, zenoh_config
from heros.net.channel import NetChannel
from tests.harness import wait_until
from tests.system.net_peer import Client, Node, Process


class Lab:
    """A realm of its own: this process, and others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.realm = f"test-{uuid.uuid4().hex[:12]}"
        self.port = free_port()
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", zenoh_config(self.port, listen=True))
        self.node = Node(self.realm)
        assert self.node.net.ready(20)
        self.processes: list[Process] = []

    def process(self, *names: str) -> Process:
        process = Process(self.realm, self.port, listen=False)
        self.processes.append(process)
        for name in names:
            process.ask("announce", name)
        return process

    def connect(self, name: str) -> tuple[NetChannel, Client]:
        client = Client()
        (entry,) = wait_until(lambda: self.node.net.find(name, 10), 60, f"{name} is found")
        channel = self.node.net.connect(entry, client)
        assert isinstance(channel, NetChannel)
        return channel, client

    def close(self) -> None:
        # The others first: a session that closes beside a peer with much on its way can keep zenoh's threads, which
        # the next session of this process needs.
        for process in self.processes:
            process.end()
        self.node.close()
