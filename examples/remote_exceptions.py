"""An exception that a method raises over there is raised over here: as the same builtin, with the remote traceback."""

import multiprocessing
import time

from heros import LocalHERO, RemoteHERO
from heros.exceptions import RemoteHEROError


class PowerSupply(LocalHERO):
    def set_current(self, ampere: float) -> None:
        if ampere > 10:
            raise ValueError(f"{ampere} A would melt the coil")


def laboratory() -> None:
    with PowerSupply("coil"):
        time.sleep(60)


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=laboratory, daemon=True).start()
    coil = RemoteHERO("coil", wait=20)

    try:
        coil.set_current(300)
    except ValueError as error:  # exactly what the owner's own code would have caught
        print("refused:", error)

    try:
        coil.set_current(300)
    except RemoteHEROError as error:  # and it tells where it came from
        print(error.remote_type, "raised in", error.endpoint)
        print("line of the driver:", "would melt the coil" in error.remote_traceback)
