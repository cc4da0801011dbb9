"""A datasource: a HERO that measures something every so often and tells whoever is interested.

The thermometer's raw voltages become temperatures by ``conversion``, and ``boundaries`` say what is normal. Leave
this running, and start datasource_observer.py in a second terminal. Ctrl-C ends it.
"""

import asyncio
import contextlib
import random
from typing import ClassVar

from heros import PolledLocalDatasourceHERO


class Thermometer(PolledLocalDatasourceHERO):
    _observables: ClassVar = {
        "oven": {
            "raw_unit": "V",
            "unit": "degC",
            "conversion": "100 * x - 50",  # an expression in x, the raw value
            "boundaries": [[20, 80], [80, 120]],  # index 0: normal, 1: warm, 2: neither
        }
    }

    def _observable_data(self) -> dict[str, tuple[float, str]]:
        """Asked every ``interval`` seconds."""
        return {"oven": (random.uniform(1.0, 1.2), "V")}


async def main() -> None:
    loop = asyncio.get_running_loop()
    with Thermometer("thermometer", loop=loop, interval=0.1):
        print("The datasource 'thermometer' is there. Ctrl-C withdraws it.", flush=True)
        await asyncio.Event().wait()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
print("The datasource 'thermometer' is gone.")
