"""The command line: ``heros`` once installed, ``python -m heros.cli`` anywhere."""

from __future__ import annotations
