"""Share an object: every other process on this computer, and in the lab, can use the HERO ``shutter``.

Leave this running, and start access_remote_hero_simple.py in a second terminal. Ctrl-C ends it.
"""

import time

from heros import LocalHERO


class Shutter(LocalHERO):
    """A beam shutter, as its driver might look."""

    state: str = "closed"  # an attribute: others can read and write it

    def open(self, seconds: float) -> str:
        """Open the shutter for so many seconds."""
        self.state = "open"
        time.sleep(seconds)
        self.state = "closed"
        return f"was open for {seconds} s"


with Shutter("shutter"):
    print("The HERO 'shutter' is there. Ctrl-C withdraws it.", flush=True)
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        print("The HERO 'shutter' is gone.")
