"""``heros demo``: an acquisition, a reader over shared memory and a reader over the network, and what they measured.

===============  ====================================================================================
``photos``       the photographs that are shipped, as arrays
``frames``       what a frame is: its shape, its number, its checksum; cutting one, checking one
``camera``       the HERO ``camera``, which publishes frames as fast as it can
``host``         the HERO ``host``, which publishes this machine's telemetry
``acquire``      the process that offers both HEROs (``python -m heros.demo.acquire``)
``follow``       a process that uses them (``python -m heros.demo.follow``)
``tally``        what a reader counts by itself
``measured``     what is measured, and what has to be true of it
``children``     starting such processes and talking to them
``loopback``     how they meet: Zenoh on this computer only
``report``       the table at the end
``steps``        the progress bar
``run``          the whole demo
===============  ====================================================================================
"""

from __future__ import annotations
