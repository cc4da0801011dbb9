"""Events, case 2 of 4: an event of a HERO in this process calls a method of a HERO in another one.

Any method of a remote HERO can be connected, as if it were a function. This process needs no code for the logbook,
and the logbook knows nothing of the detector.
"""

import multiprocessing
import time

from heros import LocalHERO, RemoteHERO, event


class Detector(LocalHERO):
    @event
    def click(self, photons: int) -> int:
        return photons


class Logbook(LocalHERO):
    def __init__(self, name: str) -> None:
        self.lines: list[int] = []
        super().__init__(name)

    def write(self, value: int) -> None:
        self.lines.append(value)

    def read(self) -> list[int]:
        return self.lines


def office() -> None:
    """The process that keeps the logbook."""
    with Logbook("logbook"):
        time.sleep(60)


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=office, daemon=True).start()
    logbook = RemoteHERO("logbook", wait=20)

    with Detector("detector") as detector:
        detector.click.connect(logbook.write)
        for photons in (3, 5, 8):
            detector.click(photons)

        while len(logbook.read()) < 3:  # events do not wait for those who listen
            time.sleep(0.01)
        print("the logbook has", logbook.read())
