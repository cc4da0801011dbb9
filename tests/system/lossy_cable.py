"""A cable that loses and delays frames: ``lossy_cable.py PID DEVICE PID DEVICE LOSS DELAY``.

Makes a TAP device in the network namespace of each process and passes frames on between the two, until its standard
input ends. Losing is left to chance, the same in every run.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
CLONE_NEWNET = 0x40000000


def tap(pid: str, device: str) -> int:
    """A descriptor of the device, which stays in that namespace."""
    with open(f"/proc/{pid}/ns/net") as space:
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


def main() -> None:
    loss, delay = map(float, sys.argv[5:7])
    chance = random.Random(1)
    first, second = tap(sys.argv[1], sys.argv[2]), tap(sys.argv[3], sys.argv[4])
    across = {first: second, second: first}
    under_way: list[tuple[float, int, int, bytes]] = []
    number = 0
    print("READY", flush=True)
    while True:
        patience = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        readable, _, _ = select.select([first, second, 0], [], [], patience)
        if 0 in readable:
            return
        for descriptor in readable:
            frame = os.read(descriptor, 65536)
            if chance.random() >= loss:
                number += 1
                heapq.heappush(under_way, (time.monotonic() + delay, number, across[descriptor], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(under_way)
            try:
                os.write(target, frame)
            except OSError:
                pass  # that side is down, or full


if __name__ == "__main__":
    main()
