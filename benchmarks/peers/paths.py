"""Where things are, and where the results go: the only place that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["HERE", "ORIGINAL_PYTHON", "PLOT", "RESULTS", "ROOT", "TABLES_MD"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent

RESULTS: Final = ROOT / "benchmarks" / "results" / "peers.json"
TABLES_MD: Final = ROOT / "docs" / "_generated" / "peers.md"
"""For a page of the documentation to include."""

PLOT: Final = ROOT / "docs" / "_static" / "peers.svg"

ORIGINAL_PYTHON: Final = ROOT / ".venv-original" / "bin" / "python"
"""The interpreter of the environment that has the original HEROS, which ``make peers`` makes."""
