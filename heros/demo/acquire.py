"""The acquisition process of the demo: offers the HEROs ``camera`` and ``host``, and acquires when it is told to."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict

from heros.demo.camera import Camera
from heros.demo.children import hear, say
from heros.demo.host import Host

__all__ = ["main"]


async def offer(realm: str) -> None:
    """Offer both HEROs until standard input ends; ``["acquire", seconds]`` is the one command."""
    with Camera("camera", realm) as camera, Host("host", realm, asyncio.get_running_loop()):
        say("ready")
        while (command := await asyncio.to_thread(hear)) is not None:
            name, seconds = command
            acquisition = await asyncio.to_thread(camera.acquire, seconds)
            say(name, **asdict(acquisition))


def main() -> None:
    """``python -m heros.demo.acquire REALM``"""
    asyncio.run(offer(realm=sys.argv[1]))


if __name__ == "__main__":
    main()
