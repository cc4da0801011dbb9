"""One call, ``add(1, 2)``, between two processes of one host: this package over shared memory, and the original HEROS.

    python benchmarks/against_the_original.py [--calls N] [--rounds N] [--original PYTHON]

The original (``heros`` 2026.2.2 from PyPI) has the same import name, so it lives in an environment of its own, which is
made in ``.venv-original`` when no interpreter that has it is given. Both are measured in turn, round by round, so that
a machine that changes its speed changes it for both; the figures are those of all rounds together.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
ORIGINAL = "heros==2026.2.2"

SERVER = """
import sys, heros
class Calculator(heros.LocalHERO):
    def add(self, a, b):
        return a + b
hero = Calculator("calculator")
print("READY", flush=True)
sys.stdin.read()
hero._destroy_hero()
"""

CLIENT = """
import json, sys, time, heros
hero = heros.RemoteHERO("calculator")
add, clock = hero.add, time.perf_counter_ns
for _ in range(200):
    add(1, 2)
print(json.dumps([0]), flush=True)
for line in sys.stdin:
    taken = []
    for _ in range(int(line)):
        start = clock()
        add(1, 2)
        taken.append(clock() - start)
    print(json.dumps(taken), flush=True)
hero._destroy_hero()
"""


class Side:
    """A server and a client of one package."""

    def __init__(self, name: str, python: str, env: dict[str, str], client_env: dict[str, str]) -> None:
        self.name = name
        self.taken: list[int] = []
        self.server = self._start(python, SERVER, env)
        assert self.server.stdout is not None
        self.server.stdout.readline()
        self.client = self._start(python, CLIENT, env | client_env)
        self._read()

    @staticmethod
    def _start(python: str, program: str, env: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | env,
            cwd=tempfile.gettempdir(),  # the original must not find this package beside it
        )

    def _read(self) -> list[int]:
        assert self.client.stdout is not None
        taken: list[int] = json.loads(self.client.stdout.readline())
        return taken

    def measure(self, calls: int) -> None:
        assert self.client.stdin is not None
        print(calls, file=self.client.stdin, flush=True)
        self.taken += self._read()

    def close(self) -> None:
        for process in (self.client, self.server):
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)


def original_python() -> str:
    """The interpreter of an environment that has the original; made when there is none yet."""
    directory = ROOT / ".venv-original"
    python = directory / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", ORIGINAL], check=True)
    return str(python)


def zenoh_config(port: int, listen: bool) -> str:
    return json.dumps(
        {
            "mode": "peer",
            "listen": {"endpoints": [f"tcp/127.0.0.1:{port if listen else 0}"]},
            "connect": {"endpoints": [] if listen else [f"tcp/127.0.0.1:{port}"]},
            "scouting": {"multicast": {"enabled": False}},
        }
    )


@click.command(help=__doc__)
@click.option("--calls", default=2000, show_default=True, help="Calls a round; the original gets a tenth.")
@click.option("--rounds", default=10, show_default=True)
@click.option("--original", default="", help="An interpreter that has the original HEROS.")
@click.option("--port", default=17448, show_default=True, help="A free TCP port of 127.0.0.1 for the original's Zenoh.")
def main(calls: int, rounds: int, original: str, port: int) -> None:
    with tempfile.TemporaryDirectory() as runtime:
        ours = Side(
            "heros, shared memory",
            sys.executable,
            {"PYTHONPATH": str(ROOT), "HEROS_RUNTIME_DIR": runtime, "HEROS_NET": "off"},
            {"HEROS_TRANSPORT": "shm"},
        )
        theirs = Side(
            f"original ({ORIGINAL})",
            original or original_python(),
            {"HEROS_ZENOH_CONFIG": zenoh_config(port, listen=True)},
            {"HEROS_ZENOH_CONFIG": zenoh_config(port, listen=False)},
        )
        for _ in range(rounds):
            ours.measure(calls)
            theirs.measure(max(1, calls // 10))
        ours.close()
        theirs.close()
    table = Table("add(1, 2)", "calls", "p50 (us)", "p99 (us)", "p50, times the first")
    reference = statistics.median(ours.taken)
    for side in (ours, theirs):
        median = statistics.median(side.taken)
        p99 = statistics.quantiles(side.taken, n=100)[98]
        table.add_row(
            side.name, f"{len(side.taken):,}", f"{median / 1e3:.1f}", f"{p99 / 1e3:.1f}", f"{median / reference:.1f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
