"""Events, case 3 of 4: an event of a HERO in another process calls a function of this one."""

import multiprocessing
import threading
import time

from heros import LocalHERO, RemoteHERO, event


class Detector(LocalHERO):
    @event
    def click(self, photons: int) -> int:
        return photons


def laboratory() -> None:
    """The process with the detector, which clicks ten times a second for a minute."""
    with Detector("detector") as detector:
        for photons in range(600):
            detector.click(photons)
            time.sleep(0.1)


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=laboratory, daemon=True).start()
    detector = RemoteHERO("detector", wait=20)

    clicks: list[int] = []
    enough = threading.Event()

    def report(photons: int) -> None:
        """Called on a thread of heros, in order, one call at a time."""
        clicks.append(photons)
        if len(clicks) == 5:
            enough.set()

    detector.click.connect(report)
    enough.wait()
    detector.click.disconnect(report)

    print("heard five clicks")
    print("one after the other:", clicks[:5] == list(range(clicks[0], clicks[0] + 5)))
