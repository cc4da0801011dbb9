"""What 100 HEROs with ten members each cost on the network, in this package and in the original.

One process offers them, another one observes them, makes a proxy of each and calls it. Both are started for each
column, one column after the other, with Zenoh on loopback and without multicast. What one costs is what all but the
first have added, divided by their number. A column that cannot be measured is reported, and the exit code is 1.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import psutil
import zenoh
from rich.console import Console
from rich.table import Table

from benchmarks.peers.paths import HERE, ORIGINAL_PYTHON, ROOT
from benchmarks.peers.process import Process
from benchmarks.targets.bench import NotMeasured
from benchmarks.targets.row import Quantity, Unit
from heros.demo.loopback import free_port, zenoh_config

OUTPUT: Final = ROOT / "benchmarks" / "results" / "network_scale.json"
TABLE_MD: Final = ROOT / "docs" / "_generated" / "network_scale.md"
COMMAND: Final = "python -m benchmarks.network_scale"

HEROS: Final = 100
DEADLINE: Final = 50.0
"""Seconds for anything that is waited for."""

SETTLED: Final = 1.0
"""Seconds that a process gets to end what it does in the background, before it is looked at."""


@dataclass(frozen=True)
class Package:
    """What runs in one of the two processes.

    Attributes:
        legacy: whether it may import cbor2, which ours needs for programs with the original.
    """

    original: bool = False
    legacy: bool = True

    def start(self, title: str, config: str, directory: Path) -> Process:
        """Start it, in a runtime directory of its own: HEROs of the other process are those of another computer."""
        env = {"HEROS_ZENOH_CONFIG": config}
        if not self.original:
            env |= {"PYTHONPATH": str(ROOT), "HEROS_TRANSPORT": "net", "HEROS_RUNTIME_DIR": str(directory / title)}
        without = [] if self.legacy else ["cbor2"]
        python = ORIGINAL_PYTHON if self.original else Path(sys.executable)
        return Process(title, [str(python), str(HERE / "network_scale_peer.py"), *without], env, ROOT)


@dataclass(frozen=True)
class Column:
    """Whose HEROs are used by whom."""

    title: str
    server: Package
    client: Package


OURS, ORIGINAL = Package(), Package(original=True)
WITHOUT: Final = Package(legacy=False)
COLUMNS: Final = (
    Column("heros, without cbor2", WITHOUT, WITHOUT),
    Column("heros[legacy]", OURS, OURS),
    Column("heros[legacy], used by the original", OURS, ORIGINAL),
    Column("original", ORIGINAL, ORIGINAL),
)


def measure(column: Column, count: int) -> dict[str, Any]:
    """What was found of so many HEROs: states of both processes, and seconds."""
    port = free_port()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heros-", dir="/tmp")))
        server = stack.enter_context(running(column.server, "server", zenoh_config(port, True), directory))
        versions = {"server": server.ask("start")}
        server.ask("offer", first=0, last=1)
        wait_until_shown(port, 1)
        found: dict[str, Any] = {"server, 1": settled(server)}
        found["create"] = server.ask("offer", first=1, last=count)
        wait_until_shown(port, count)
        found["server, all"] = settled(server)

        client = stack.enter_context(running(column.client, "client", zenoh_config(port, False), directory))
        versions["client"] = client.ask("start")
        found["observe"] = client.ask("observe", expected=count, at_most=DEADLINE)
        found["observe again"] = client.ask("observe", expected=count, at_most=DEADLINE)
        client.ask("use", first=0, last=1)
        found["client, 1"] = settled(client)
        found["use"] = client.ask("use", first=1, last=count)
        found["client, all"] = settled(client)
        found["server, used"] = settled(server)
    return found | {"versions": versions, "count": count}


@contextmanager
def running(package: Package, title: str, text: str, directory: Path) -> Iterator[Process]:
    process = package.start(title, text, directory)
    ended = False
    try:
        yield process
        ended = True
    finally:
        if (complaint := process.end()) and ended:
            raise NotMeasured(complaint)


def settled(process: Process) -> dict[str, Any]:
    time.sleep(SETTLED)
    state: dict[str, Any] = process.ask("state")
    return state


def wait_until_shown(port: int, count: int) -> None:
    """Until so many HEROs have shown themselves to a third session, which is closed again."""
    end = time.monotonic() + DEADLINE
    with zenoh.open(zenoh.Config.from_json5(zenoh_config(port, False))) as session:
        while (shown := sum(1 for _ in session.liveliness().get("@object/*/*/_health"))) < count:
            if time.monotonic() > end:
                raise NotMeasured(f"of {count} HEROs {shown} have shown themselves")
            time.sleep(0.1)


# -- what is shown -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of the tables.

    Attributes:
        find: from what ``measure`` returns to the figure.
        note: from the same to what is said beside it.
    """

    title: str
    unit: Unit
    find: Callable[[Mapping[str, Any]], float]
    note: Callable[[Mapping[str, Any]], str] = lambda found: ""


def entities(found: Mapping[str, Any], before: str, after: str) -> Counter[str]:
    """Kind to how many there are more."""
    return Counter(found[after]["entities"]) - Counter(found[before]["entities"])


def entities_row(title: str, before: str, after: str) -> Row:
    def find(found: Mapping[str, Any]) -> float:
        return entities(found, before, after).total() / (found["count"] - 1)

    def note(found: Mapping[str, Any]) -> str:
        of_kinds = sorted(entities(found, before, after).items())
        each = [(Quantity(number / (found["count"] - 1), ""), kind) for kind, number in of_kinds]
        return ", ".join(f"{number} {kind}" for number, kind in each)

    return Row(title, "", find, note)


def state_row(title: str, what: str, unit: Unit, before: str, after: str) -> Row:
    def find(found: Mapping[str, Any]) -> float:
        grown: float = found[after][what] - found[before][what]
        return grown / (found["count"] - 1)

    def note(found: Mapping[str, Any]) -> str:
        return f"{Quantity(found[before][what], unit)} with one" if before.endswith(", 1") else ""

    return Row(title, unit, find, note)


ROWS: Final = (
    entities_row("Zenoh entities a HERO", "server, 1", "server, all"),
    entities_row("the same, while all are used", "server, 1", "server, used"),
    Row("Zenoh entities of the process with one HERO", "", lambda found: sum(found["server, 1"]["entities"].values())),
    state_row("threads a HERO", "threads", "", "server, 1", "server, all"),
    state_row("memory a HERO", "memory", "B", "server, 1", "server, all"),
    Row("to create a HERO", "s", lambda found: statistics.median(found["create"])),
    Row("until a new process's `HEROObserver` knows all", "s", lambda found: found["observe"]),
    Row("a further `HEROObserver` of that process", "s", lambda found: found["observe again"]),
    Row(
        "a `RemoteHERO` of each and one call of each, all together",
        "s",
        lambda found: found["use"]["made"] + found["use"]["called"],
        lambda found: f"the calls: {Quantity(found['use']['called'], 's')}",
    ),
    entities_row("Zenoh entities a `RemoteHERO`", "client, 1", "client, all"),
    state_row("threads a `RemoteHERO`", "threads", "", "client, 1", "client, all"),
    state_row("memory a `RemoteHERO`", "memory", "B", "client, 1", "client, all"),
)


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A row's title, then a cell for each column."""
    return [[row.title, *(cell(row, each) for each in found.values())] for row in ROWS]


def cell(row: Row, found: Mapping[str, Any]) -> str:
    note = row.note(found)
    return f"{Quantity(row.find(found), row.unit)}" + (f" ({note})" if note else "")


def table(found: Mapping[str, Mapping[str, Any]], count: int) -> Table:
    shown = Table(title=f"{count} HEROs of ten members on the network", title_justify="left", show_lines=True)
    shown.add_column("what")
    for title in found:
        shown.add_column(title.replace("[", r"\["), justify="right")
    for line in lines(found):
        shown.add_row(*line)
    return shown


def markdown(data: Mapping[str, Any]) -> str:
    found = data["columns"]
    rows = [["what", *found], [":--", *["--:"] * len(found)], *lines(found)]
    head = (
        f"Made by `{COMMAND}` on {data['date'][:10]}: one run of {data['count']} HEROs, {data['machine']}, Python "
        f"{data['python']}. What one costs is that of all but the first, divided by their number; memory is what the "
        "process has for itself alone."
    )
    versions = sorted(
        {
            f"{name} {number}"
            for each in found.values()
            for process in each["versions"].values()
            for name, number in process.items()
        }
    )
    told = [f"{title} could not be measured: {text.splitlines()[0]}" for title, text in data["failures"].items()]
    cells = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return "\n\n".join([head, cells, *told, f"Versions: {', '.join(versions)}."]) + "\n"


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Few HEROs: only to see whether everything works.")
@click.option("--only", default="", help="The columns whose title contains this text. Nothing is written.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Write the figures there, as JSON, and nothing else; otherwise to {OUTPUT.name}, with a table.",
)
def main(quick: bool, only: str, output: Path | None) -> None:
    console, begin = Console(), time.monotonic()
    count = 10 if quick else HEROS
    found: dict[str, Any] = {}
    failures: dict[str, str] = {}
    for column in COLUMNS:
        if only not in column.title:
            continue
        with console.status(column.title):
            try:
                found[column.title] = measure(column, count)
            except Exception as error:
                failures[column.title] = f"{type(error).__name__}: {error}"
    console.print(table(found, count), highlight=False)
    for title, text in failures.items():
        console.print(f"{title} could not be measured: {text}", markup=False, highlight=False)
    data = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} CPUs",
        "python": platform.python_version(),
        "quick": quick,
        "count": count,
        "failures": failures,
        "columns": found,
    }
    written = [] if output is None and (only or failures) else [output or OUTPUT]
    for path in written:
        write(path, json.dumps(data, indent=1) + "\n")
    if written == [OUTPUT]:
        write(TABLE_MD, markdown(data))
        written.append(TABLE_MD)
    places = f"; written: {', '.join(map(os.path.relpath, written))}" if written else ""
    console.print(f"{time.monotonic() - begin:.0f} s{places}", soft_wrap=True)
    if failures:
        raise SystemExit(1)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
