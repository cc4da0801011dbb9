"""An object that cannot travel stays where it is. What travels is a reference, which becomes the object at home.

The owner keeps weak references only: it must itself hold what others refer to, as ``self._connections`` does.
"""

import multiprocessing
import time

from heros import LocalHERO, RemoteHERO


class Connection:
    """Stands for anything bound to its process: a socket, a file, a handle of a vendor's library."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sent: list[str] = []


class Gateway(LocalHERO):
    def __init__(self, name: str) -> None:
        self._connections: list[Connection] = []
        super().__init__(name)

    def open(self, address: str) -> Connection:
        self._connections.append(Connection(address))
        return self._connections[-1]

    def send(self, connection: Connection, command: str) -> int:
        """``connection`` is the object itself again."""
        connection.sent.append(command)
        return len(connection.sent)


def laboratory() -> None:
    with Gateway("gateway"):
        time.sleep(60)


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=laboratory, daemon=True).start()
    gateway = RemoteHERO("gateway", wait=20)

    connection = gateway.open("GPIB0::12")
    print("what arrived is an", type(connection).__name__)
    print("sent", gateway.send(connection, "*IDN?"), "command")
    print("sent", gateway.send(connection, "READ?"), "commands")
