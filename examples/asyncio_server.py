"""A HERO in an asyncio program: the loop does its own work, the calls of others arrive on threads of heros.

A method that touches what belongs to the loop hands that part over to it, as asyncio wants it from any other thread.
Try ``python -c "from heros import RemoteHERO; print(RemoteHERO('oven').heat_to(60.0))"``. Ctrl-C ends it.
"""

import asyncio
import contextlib

from heros import LocalHERO


class Oven(LocalHERO):
    temperature: float = 20.0

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._target = 20.0
        super().__init__(name)

    def heat_to(self, target: float) -> float:
        """Return when the oven is there. Calls of other methods, and the loop, go on meanwhile."""
        return asyncio.run_coroutine_threadsafe(self._heat_to(target), self._loop).result()

    async def _heat_to(self, target: float) -> float:
        self._target = target
        while abs(self.temperature - target) > 0.5:
            await asyncio.sleep(0.01)
        return round(self.temperature)

    async def _regulate(self) -> None:
        """The program's own work."""
        while True:
            self.temperature += 0.2 * (self._target - self.temperature)
            await asyncio.sleep(0.01)


async def main() -> None:
    with Oven("oven", asyncio.get_running_loop()) as oven:
        print("The HERO 'oven' is there. Ctrl-C withdraws it.", flush=True)
        await oven._regulate()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
print("The HERO 'oven' is gone.")
