"""Events, case 4 of 4: two HEROs that live in two other processes are connected to each other.

The connection is made at the owner of the event: the data goes straight from the detector's process to the
logbook's, and goes on when the process that made the connection has ended.
"""

import multiprocessing
import time

from heros import LocalHERO, RemoteHERO, event


class Detector(LocalHERO):
    @event
    def click(self, photons: int) -> int:
        return photons

    def shine(self, photons: int) -> None:
        """Light falls on the detector."""
        self.click(photons)


class Logbook(LocalHERO):
    def __init__(self, name: str) -> None:
        self.lines: list[int] = []
        super().__init__(name)

    def write(self, value: int) -> None:
        self.lines.append(value)

    def read(self) -> list[int]:
        return self.lines


def laboratory() -> None:
    with Detector("detector"):
        time.sleep(60)


def office() -> None:
    with Logbook("logbook"):
        time.sleep(60)


if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    for process in (laboratory, office):
        spawn.Process(target=process, daemon=True).start()

    detector = RemoteHERO("detector", wait=20)
    logbook = RemoteHERO("logbook", wait=20)

    detector.click.connect(logbook.write)
    print("connected:", [callback["name"] for callback in detector.click.get_callbacks()])

    for photons in (3, 5, 8):
        detector.shine(photons)  # here a call makes it happen; any other cause would do

    while len(logbook.read()) < 3:
        time.sleep(0.01)
    print("the logbook has", logbook.read())
    print("disconnected:", detector.click.disconnect(logbook.write))
