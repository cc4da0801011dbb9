"""The command line: ``heros`` once installed, ``python -m heros`` anywhere."""

from __future__ import annotations
