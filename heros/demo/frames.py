"""What a frame of the demo is: an image, its number and its checksum; how one is made, and how one is checked.

An image is a window of the mosaic, shifted a little further each time; beyond an edge it goes on at the opposite one.
As some scientific cameras do, this one writes the number of the frame into the image, into the last eight pixels,
so that no two frames are equal.

The checksum (CRC-32) covers every byte. The camera must not spend its time on it, so it uses that the CRC of a
message can be continued: the part before the number is one of ``WINDOWS`` known ones, whose CRC is computed once,
and only the eight bytes of the number are added for each frame. A reader computes it over all it received.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPE", "Scene", "intact"]

SHAPE: Final = (1024, 1024)
WINDOWS: Final = 64
NUMBER_BYTES: Final = 8
STEP: Final = (97, 211)
"""Rows and columns from one window to the next; odd, so that 64 windows are 64 different ones."""


class Scene:
    """What the camera sees. ``expose`` may be called by one thread at a time.

    Args:
        picture: a uint8 array of shape ``SHAPE``.
    """

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        rows, columns = SHAPE
        canvas = np.tile(picture, (2, 2))
        corners = [(i * STEP[0] % rows, i * STEP[1] % columns) for i in range(WINDOWS)]
        self._windows = [canvas[y : y + rows, x : x + columns] for y, x in corners]
        self._checksums = [zlib.crc32(window.tobytes()[:-NUMBER_BYTES]) for window in self._windows]

    def expose(self, image: NDArray[np.uint8], number: int) -> int:
        """Write frame ``number`` into ``image``, an array of shape ``SHAPE``; return the frame's checksum."""
        window = number % WINDOWS
        np.copyto(image, self._windows[window])
        stamp = number.to_bytes(NUMBER_BYTES, "little")
        image[-1, -NUMBER_BYTES:] = np.frombuffer(stamp, np.uint8)
        return zlib.crc32(stamp, self._checksums[window])


def intact(sample: Mapping[str, Any]) -> bool:
    """Whether a frame arrived as it was sent: its shape, its type, every byte, and the number in its pixels.

    Args:
        sample: ``{"number": int, "checksum": int, "image": array}``, as the camera publishes it.
    """
    image = sample["image"]
    return (
        isinstance(image, np.ndarray)
        and image.shape == SHAPE
        and image.dtype == np.uint8
        and zlib.crc32(image.data) == sample["checksum"]
        and int.from_bytes(image[-1, -NUMBER_BYTES:].tobytes(), "little") == sample["number"]
    )
