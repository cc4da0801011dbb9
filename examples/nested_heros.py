"""HEROs inside HEROs: what arrives on the other side is a proxy, so one can go as deep as one likes.

A HERO can be an attribute of another, an argument of a method, or its result.
"""

import multiprocessing
import time

from heros import LocalHERO, RemoteHERO


class Laser(LocalHERO):
    power: float = 0.0
    wavelength: int

    def __init__(self, name: str, wavelength: int) -> None:
        self.wavelength = wavelength
        super().__init__(name)

    def ramp(self, milliwatt: float) -> float:
        self.power = milliwatt
        return self.power


class Table(LocalHERO):
    """An optical table, on which lasers stand."""

    cooling: Laser  # a HERO as an attribute

    def __init__(self, name: str) -> None:
        self.cooling = Laser("cooling", 780)
        self.repumper = Laser("repumper", 795)
        super().__init__(name)

    def weakest(self) -> Laser:
        """A HERO as a result."""
        return min(self.cooling, self.repumper, key=lambda laser: laser.power)

    def switch_off(self, laser: Laser) -> str:
        """A HERO as an argument; it may live in this process or in any other."""
        laser.ramp(0.0)
        return f"the laser at {laser.wavelength} nm is off"


def laboratory() -> None:
    with Table("table"):
        time.sleep(60)


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=laboratory, daemon=True).start()
    table = RemoteHERO("table", wait=20)

    print("cooling laser at", table.cooling.ramp(80), "mW")
    print("the weakest has", table.weakest().wavelength, "nm")
    print(table.switch_off(table.cooling))
    print("cooling laser at", table.cooling.power, "mW")
