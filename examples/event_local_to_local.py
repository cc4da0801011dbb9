"""Events, case 1 of 4: an event of a HERO in this process calls a function of this process.

An event is a method: calling it runs its body, returns the result, and hands the result to whoever has connected.
"""

from heros import LocalHERO, event


class Detector(LocalHERO):
    @event
    def click(self, photons: int) -> int:
        """Happens when photons were counted; subscribers get their number."""
        return photons


def report(photons: int) -> None:
    print("counted", photons)


with Detector("detector") as detector:
    detector.click.connect(report)
    detector.click(3)
    detector.click(5)

    detector.click.disconnect(report)
    print("nobody listens, the method still works:", detector.click(8))
