"""``python -m heros``"""

from __future__ import annotations

from heros.cli.main import main

main(prog_name="heros")
