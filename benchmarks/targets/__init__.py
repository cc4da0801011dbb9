"""How far this package is from what it aims at: one row a target, each measured against a reference of the same run.

    python -m benchmarks.targets [--only 5 | --only 4.3,9] [--quick]

``row.py`` is what a target and a verdict are; ``calls.py`` ... ``codec.py`` are the targets, one file a group;
``bench.py`` is what these are given to measure with: the figures of the peers (``benchmarks/peers``), those of the very
run that ``make peers`` has just made or ones that are measured for it, and a laboratory of child processes that run
``workbench.py``. ``table.py`` shows the rows, ``report.py`` puts all of it together.

Target 8, the network, is not here yet. A row that is missed is a result; only one that cannot be measured is a failure.
"""

from __future__ import annotations
