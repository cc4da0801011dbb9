"""What a HERO exposes, and what stays at home.

A HERO is an ordinary object. What its class shows to the world, its proxies show too: methods with their signatures,
annotated or class-level values as attributes. The rest stays private.
"""

import inspect
import multiprocessing
import time

from heros import LocalHERO, RemoteHERO
from heros.inspect import force_remote, local_only


class Stage(LocalHERO):
    """A translation stage; lengths in millimetres."""

    position: float  # only annotated: counts as an attribute
    limits = (0.0, 25.0)  # a value on the class: counts too
    _steps = 0  # private: does not

    def __init__(self, name: str, position: float) -> None:
        self.position = position
        super().__init__(name)

    def move(self, target: float, speed: float = 1.0) -> float:
        """Move to ``target`` and return the new position."""
        low, high = self.limits
        self.position = min(max(target, low), high)
        return self.position

    @local_only
    def reset_controller(self) -> None:
        """Too dangerous for guests."""

    @force_remote
    def _diagnose(self) -> str:
        """Private by name, exposed on purpose."""
        return "all good"


def laboratory() -> None:
    """The process that owns the stage."""
    with Stage("stage", position=3.0):
        time.sleep(60)


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=laboratory, daemon=True).start()

    stage = RemoteHERO("stage", wait=20)  # waits until it is there

    print("move" + str(inspect.signature(stage.move)))
    print("position", stage.position, "of", stage.limits)  # tuples arrive as lists
    print("moved to", stage.move(12.5))
    print("moved to", stage.move(target=99, speed=2))
    stage.position = 7.0  # runs the other process's setter
    print("position", stage.position)
    print("diagnosis:", stage._diagnose())
    print("reset_controller exposed?", hasattr(stage, "reset_controller"))
