"""Every limit and default, with its reason.

A limit that a user may need to change has an environment variable; it is read once, when the value is first
asked for, never on import.
"""

from __future__ import annotations

import os
from functools import cache

from heros.exceptions import HEROSError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# -- messages -------------------------------------------------------------------------------------------------

MAX_NAME_LENGTH = 200
"""Characters in a HERO's or a realm's name: percent-encoded it must fit into a file name (255 bytes)."""

MAX_ENTRY_BYTES = MIB
"""What the host's registry holds of one HERO: descriptor and metadata, a few KiB as a rule. It is read whole."""

MAX_DEPTH = 64
"""Nesting of a value. Instrument data is flat; deeper input is an attack or a cycle."""

MAX_ITEMS = 1_000_000
"""Entries in one list or map of a header. Large numeric data belongs into an array."""

MAX_HEADER_BYTES = 64 * MIB
"""Bytes of one msgpack header, buffers not counted."""

MAX_BUFFERS = 4096
"""Buffers in one message."""

MAX_BUFFER_BYTES = 64 * GIB
"""Bytes in one buffer; above what a workstation holds, it only refuses nonsense lengths."""

OUT_OF_BAND_BYTES = 4 * KIB
"""From this size on a bytes object leaves the msgpack header and travels as a buffer (arrays always do)."""

MAX_CALL_DEPTH = 64
"""Calls within calls (A calls B calls A ...): each holds a thread in its process while it waits."""

# -- shared memory --------------------------------------------------------------------------------------------

REQUEST_RING_BYTES = 128 * KIB
REPLY_RING_BYTES = 128 * KIB
EVENT_RING_BYTES = 256 * KIB
"""Sizes of a channel's rings (powers of two). They carry descriptors and small values; large ones go through the
arena. 200 channels then cost 100 MiB, which is committed up front so that a full memory never shows as SIGBUS."""

INLINE_BYTES = 4 * KIB
"""Up to this size a buffer is copied into the record; above, the arena's bookkeeping is cheaper than the copies."""

SEGMENT_BYTES = 8 * MIB
"""Least size of an arena segment: a segment costs a descriptor on each side, so small slots share one."""

MAX_SEGMENTS = 256
"""Arena segments of one node: one descriptor each."""

LEASES_PER_PEER = 256
LEASED_BYTES_PER_PEER = 1 * GIB
"""What one reader may hold as views. Beyond, it is sent copies: a hoarding reader costs itself, not the publisher."""

# -- events ---------------------------------------------------------------------------------------------------

EVENT_WINDOW = 1024
"""Samples on their way to one subscriber: 5 ms (one switch interval) at 200 k/s."""

EVENT_WINDOW_BYTES = 64 * MIB
"""Bytes of samples on their way to one subscriber: bounds what a slow callback makes its own process hold."""

CALLBACK_QUEUE = 256
"""Samples waiting for a remote method attached to an event; beyond, they are dropped and counted."""

# -- network --------------------------------------------------------------------------------------------------

NET_FRAME_BYTES = 4 * GIB
"""Bytes of one message on the network: it must fit into the receiver's memory whole."""

NET_BACKLOG_BYTES = 16 * MIB
"""Samples that wait to be sent to one peer; beyond, ``publish`` says that there is no room. Enough to keep any network
busy; more would only cost fresh memory."""

NET_REPLY_BACKLOG_BYTES = 1 * GIB
"""Replies that wait for one peer which does not read them; beyond, it is disconnected."""

NET_RECYCLED_BUFFERS = 2
NET_RECYCLED_BYTES = 64 * MIB
"""Memory of received messages that is kept to be used again: this many of at most this size, in the process."""

NET_HELD_PACKETS = 256
NET_HELD_SECONDS = 5.0
"""Packets that overtook others (when Zenoh finds a better route) wait this long for them, then the channel ends."""

NET_PING_SECONDS = 5.0
"""While calls are pending, how often the way to the server and back is tried. An answer may take any time."""

NET_CONNECT_SECONDS = 10.0
"""To connect to a node whose liveliness token is there; it answers in milliseconds unless it is stopped."""

NET_HELLO_SECONDS = 0.25
"""Until a HELLO is repeated: it is lost when Zenoh has no route yet."""

NET_SETTLE_SECONDS = 1.0
"""After a session is opened, how long scouting and gossip may take to find everybody on a quiet network."""

NET_LINKS_PER_PEER = 16
"""Channels one client node may hold open; it needs one."""

NET_DIRECTORY_BYTES = 16 * MIB
"""Bytes of one discovery answer: 10,000 HEROs with rich metadata."""

# -- processes and threads ------------------------------------------------------------------------------------

MAX_WORKERS = 256
"""Threads that run calls and callbacks in one process. Started when needed: a quiet process has two. A call that waits
for another HERO, which may call back, holds one; so many such calls at once can be served."""

QUEUED_REQUESTS = 65_536
"""Requests that may wait for a busy method or HERO; beyond, callers get an error instead of unbounded memory."""

QUEUED_BYTES = 16 * MIB
"""Records that wait for a peer which does not read its ring; beyond, it is disconnected, or its callers wait."""

LONG_WAIT_SECONDS = 10.0
"""After this long a waiting call writes one log line, so that a hang has a name."""

CONNECT_SECONDS = 2.0
"""To connect to a live process on the same host; it answers in well under a millisecond."""

DISCOVERY_SECONDS = 2.0
"""How long a lookup that fails on the host waits for the network to answer."""

RELIABLE_SECONDS = 30.0
"""How long a reliable publisher waits for a subscriber that takes nothing before it disconnects it."""

CONVERSION_CHARACTERS = 512
CONVERSION_NODES = 100
"""Size of a datasource's conversion expression: room for any calibration curve, none for an attack."""


def _number(variable: str, default: float, minimum: float) -> float:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise HEROSError(
            f"{variable}={text!r} is not a number. Unset it or set it to a number >= {minimum:g}."
        ) from None
    if not value >= minimum:  # also refuses nan
        raise HEROSError(f"{variable}={text!r} is too small. Unset it or set it to a number >= {minimum:g}.")
    return value


@cache
def spin_seconds() -> float:
    """How long a reader spins before it sleeps, in seconds (``HEROS_SPIN_US``, in microseconds; default 60).

    Well below the interpreter's switch interval (5 ms), as a spinning thread holds the GIL; a few times a
    round trip (10 us), so that a busy conversation never sleeps. 0 on a machine with one CPU.
    """
    if len(os.sched_getaffinity(0)) < 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) < 2:
        return 0.0
    return _number("HEROS_SPIN_US", 60.0, 0.0) * 1e-6


@cache
def call_timeout() -> float | None:
    """Time-out of a call in seconds (``HEROS_CALL_TIMEOUT``); None, the default: wait while the server lives."""
    value = _number("HEROS_CALL_TIMEOUT", 0.0, 0.0)
    return value or None


@cache
def shm_quota() -> int:
    """Bytes of arena one process may own (``HEROS_SHM_QUOTA``); default: a quarter of the machine's memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        memory = 8 * GIB
    return int(_number("HEROS_SHM_QUOTA", memory // 4, 0))
