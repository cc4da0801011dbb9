"""Target 7: to begin, and to do nothing."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import psutil

from .bench import Bench, Lab, Target, median
from .row import Finding, Quantity, at_most, plain

__all__ = ["TARGETS"]

HERO: Final = "first-0"
IDLE_SECONDS: Final = 3.0
SETTLE_SECONDS: Final = 1.0
"""After the last call: what follows it is no idling."""

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds: the least that the system tells of a process's time; what lay below it before may complete one."""

IMPORT: Final = """
import json, sys, time
start = time.perf_counter()
import numpy
between = time.perf_counter()
import heros
end = time.perf_counter()
zenoh = [name for name in sys.modules if name.partition(".")[0] == "zenoh"]
print(json.dumps({"numpy": between - start, "all": end - start, "zenoh": len(zenoh)}))
"""
"""numpy first, so that both are known: without it, ``import heros`` would take as long as the two."""

FIRST_CALL: Final = """
import json, sys, time
import heros
start = time.perf_counter()
result = heros.RemoteHERO(sys.argv[1]).add(1, 2)
end = time.perf_counter()
assert result == 3
print(json.dumps(end - start))
"""


def idle(bench: Bench) -> Finding:
    with Lab() as lab:
        server, client = lab.start("server"), lab.start("client")
        server.ask("offer", prefix="first", count=1)
        client.ask("reach", names=[HERO])
        client.ask("subscribe", name=HERO)
        client.ask("calls", names=[HERO], block=1000, rounds=1)
        processes = [psutil.Process(child.pid) for child in (server, client)]
        time.sleep(SETTLE_SECONDS)
        before = spent(processes)
        seconds = IDLE_SECONDS if not bench.quick else 0.1 * IDLE_SECONDS
        time.sleep(seconds)
        return plain(spent(processes) - before, "s", f"server and client together, in {seconds:.2g} s")


def spent(processes: list[psutil.Process]) -> float:
    """Seconds of the processors that they have used."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def first_call(bench: Bench) -> Finding:
    with Lab() as lab:
        lab.start("server").ask("offer", prefix="first", count=1)
        taken = [lab.run(FIRST_CALL, HERO) for _ in range(bench.few(9, 1))]
    return plain(median(taken), "s", f"a new process each; {min(taken) * 1e3:.0f} to {max(taken) * 1e3:.0f} ms")


def imports(bench: Bench) -> list[dict[str, Any]]:
    with Lab() as lab:
        lab.run(IMPORT)  # whatever has to be compiled or read from a disk
        return [lab.run(IMPORT) for _ in range(bench.few(9, 1))]


def import_time(bench: Bench) -> Finding:
    found = bench.once(imports)
    whole, numpy = median([each["all"] for each in found]), median([each["numpy"] for each in found])
    return Finding(Quantity(whole, "s"), Quantity(whole, "s"), Quantity(numpy, "s"), "numpy, which is part of it")


def zenoh_modules(bench: Bench) -> Finding:
    return plain(max(each["zenoh"] for each in bench.once(imports)), "", "modules of zenoh")


TARGETS: Final = (
    Target("7.1", "processor seconds while idle", at_most(TICK, "s"), idle),
    Target("7.2", "first call of a new process, after the import", at_most(30e-3, "s"), first_call),
    Target("7.3", "import heros", at_most(100e-3, "s"), import_time),
    Target("7.4", "import heros does not import zenoh", at_most(0, ""), zenoh_modules),
)
