"""The photographs that are shipped with the package. ``SOURCES.md`` says where they come from."""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

__all__ = ["mosaic", "photographs"]


def photographs() -> dict[str, NDArray[np.uint8]]:
    """The photographs by name, each of shape (512, 512)."""
    with resources.files("heros.demo").joinpath("photographs.npz").open("rb") as file, np.load(file) as archive:
        return {name: archive[name] for name in archive.files}


def mosaic() -> NDArray[np.uint8]:
    """The four photographs side by side, of shape (1024, 1024): what the camera of the demo looks at."""
    first, second, third, fourth = photographs().values()
    return np.block([[first, second], [third, fourth]])
