"""The limits between processes, and those that a user meets or sets, each with its reason.

A limit that a user may need to change has an environment variable; it is read once, when the value is first
asked for, never on import. A timing or a size that is private to one module stays there, with its reason.
"""

from __future__ import annotations

import math
import os
from functools import cache

from heros.exceptions import HEROSError

__all__ = [
    "CALLBACK_QUEUE",
    "CONNECT_SECONDS",
    "CONVERSION_CHARACTERS",
    "CONVERSION_NODES",
    "DISCOVERY_SECONDS",
    "EVENT_RING_BYTES",
    "EVENT_WINDOW",
    "EVENT_WINDOW_BYTES",
    "GIB",
    "INLINE_BYTES",
    "KIB",
    "LEASED_BYTES_PER_PEER",
    "LEASES_PER_PEER",
    "LONG_WAIT_SECONDS",
    "MAX_BUFFERS",
    "MAX_CALL_DEPTH",
    "MAX_DEPTH",
    "MAX_ENTRY_BYTES",
    "MAX_HEADER_BYTES",
    "MAX_ITEMS",
    "MAX_NAME_LENGTH",
    "MAX_SEGMENTS",
    "MAX_SEGMENT_BYTES",
    "MAX_WORKERS",
    "MIB",
    "NET_BACKLOG_BYTES",
    "NET_CONNECT_SECONDS",
    "NET_DIRECTORY_BYTES",
    "NET_FRAME_BYTES",
    "NET_HELD_PACKETS",
    "NET_HELD_SECONDS",
    "NET_HELLO_SECONDS",
    "NET_LINKS_PER_PEER",
    "NET_MAILBOX_PACKETS",
    "NET_PING_SECONDS",
    "NET_RECYCLED_BUFFERS",
    "NET_RECYCLED_BYTES",
    "NET_REPLY_BACKLOG_BYTES",
    "NET_SETTLE_SECONDS",
    "OUT_OF_BAND_BYTES",
    "QUEUED_BYTES",
    "QUEUED_REQUESTS",
    "RELIABLE_SECONDS",
    "REPLY_RING_BYTES",
    "REQUEST_RING_BYTES",
    "SEGMENT_BYTES",
    "call_timeout",
    "shm_quota",
    "spin_seconds",
]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# -- messages -------------------------------------------------------------------------------------------------

MAX_NAME_LENGTH = 200
"""Characters in a HERO's or a realm's name: percent-encoded it must fit into a file name (255 bytes)."""

MAX_DEPTH = 64
"""Nesting of a value. Instrument data is flat; deeper input is an attack or a cycle."""

MAX_ITEMS = 1_000_000
"""Entries in one list or map of a header. Large numeric data belongs into an array."""

MAX_HEADER_BYTES = 64 * MIB
"""Bytes of one msgpack header, buffers not counted."""

MAX_BUFFERS = 4096
"""Buffers in one message."""

OUT_OF_BAND_BYTES = 4 * KIB
"""From this size on a bytes object leaves the msgpack header and travels as a buffer (arrays always do)."""

MAX_CALL_DEPTH = 64
"""Calls within calls (A calls B calls A ...): each holds a thread in its process while it waits."""

# -- the registry ---------------------------------------------------------------------------------------------

MAX_ENTRY_BYTES = MIB
"""What the host's registry holds of one HERO: descriptor and metadata, a few KiB as a rule. It is read whole."""

# -- shared memory --------------------------------------------------------------------------------------------

REQUEST_RING_BYTES = 128 * KIB
"""Of a channel's ring of requests. A ring is a power of two. It carries descriptors and small values, and large ones go
through the arena; 200 channels then cost 100 MiB, committed up front so that a full memory never shows as SIGBUS."""

REPLY_RING_BYTES = 128 * KIB
"""Of a channel's ring of replies: as that of the requests."""

EVENT_RING_BYTES = 256 * KIB
"""Of a channel's ring of events: twice that of the requests, as one publisher's samples are not waited for."""

INLINE_BYTES = 4 * KIB
"""Up to this size a buffer is copied into the record; above, the arena's bookkeeping is cheaper than the copies."""

SEGMENT_BYTES = 8 * MIB
"""Least size of an arena segment: a segment costs a descriptor on each side, so small slots share one."""

MAX_SEGMENTS = 256
"""Arena segments of one node: one descriptor each."""

MAX_SEGMENT_BYTES = 64 * GIB
"""Size of one segment, which each reader maps whole: beyond the largest arrays, and 128 MiB of page tables a reader."""

LEASES_PER_PEER = 256
"""Buffers that one reader may hold as views. Beyond, it is sent copies: a hoarding reader costs itself, not the
publisher."""

LEASED_BYTES_PER_PEER = 1 * GIB
"""Bytes that one reader may hold as views; beyond, it is sent copies likewise."""

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
"""Pieces of memory of received messages that a process keeps to use them again: one is filled while one is read."""

NET_RECYCLED_BYTES = 64 * MIB
"""Largest piece of memory that is kept so; fresh memory costs most for images, and more would only lie idle."""

NET_HELD_PACKETS = 256
"""Packets that overtook others (when Zenoh finds a better route) and wait for them; beyond, the channel ends."""

NET_HELD_SECONDS = 5.0
"""How long they wait; then those that are missing are lost, and the channel ends."""

NET_PING_SECONDS = 5.0
"""While calls are pending, how often the way to the server and back is tried. An answer may take any time."""

NET_CONNECT_SECONDS = 10.0
"""To connect to a node whose liveliness token is there; it answers in milliseconds unless it is stopped."""

NET_HELLO_SECONDS = 0.25
"""Until a HELLO is repeated: it is lost when Zenoh has no route yet."""

NET_MAILBOX_PACKETS = 1024
"""Packets that may wait to be read; a batch or a piece has up to 2 MiB, and readers are never far behind."""

NET_SETTLE_SECONDS = 1.0
"""After a session is opened, how long scouting and gossip may take to find everybody on a quiet network."""

NET_LINKS_PER_PEER = 16
"""Channels one client node may hold open; it needs one."""

NET_DIRECTORY_BYTES = 16 * MIB
"""Bytes of one node's directory, and of any other answer to a discovery: 10,000 HEROs with rich metadata."""

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
"""Length of a datasource's conversion expression: room for any calibration curve, none for an attack."""

CONVERSION_NODES = 100
"""Operators, functions, names and numbers in a datasource's conversion expression, for the same reason."""


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


def _cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def spin_seconds() -> float:
    """How long a reader spins before it sleeps, in seconds (``HEROS_SPIN_US``, in microseconds; default 60).

    Well below the interpreter's switch interval (5 ms), as a spinning thread holds the GIL; a few times a
    round trip (10 us), so that a busy conversation never sleeps. 0 on a machine with one CPU.
    """
    if _cpus() < 2:
        return 0.0
    return _number("HEROS_SPIN_US", 60.0, 0.0) * 1e-6


@cache
def call_timeout() -> float | None:
    """Time-out of a call in seconds (``HEROS_CALL_TIMEOUT``); None, the default, and 0: wait while the server lives."""
    value = _number("HEROS_CALL_TIMEOUT", 0.0, 0.0)
    return value if 0.0 < value < math.inf else None


@cache
def shm_quota() -> int:
    """Bytes of arena one process may own (``HEROS_SHM_QUOTA``); default: a quarter of the machine's memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        memory = 8 * GIB
    return int(_number("HEROS_SHM_QUOTA", memory // 4, 0))
