"""The rows as a table: for the terminal, and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .row import COMMAND, Row

__all__ = ["markdown", "show", "summary"]


def cells(row: Row) -> list[str]:
    """What is measured, its figure, its reference, what they come to, the bound."""
    found = row.finding
    if found is None:
        return [row.what, "", "", "", str(row.limit)]
    measured = f"{found.measured}" + (f" ({found.note})" if found.note else "")
    reference = f"{found.reference} ({found.reference_name})" if found.reference is not None else ""
    return [row.what, measured, reference, str(found.value), str(row.limit)]


HEAD = ("", "what", "measured", "reference", "value", "bound", "verdict", "goal")


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table, narrower than ``markdown``, and what is told of rows that could not be measured."""
    table = Table(title="Targets", title_justify="left", caption_justify="left")
    table.caption = f"`{COMMAND} --only 4.3` measures just that row."
    for name in ("", "what", "measured, reference", "value", "bound", "verdict, goal"):
        table.add_column(name, no_wrap=name in ("", "value"), justify="right" if name == "value" else "left")
    for row in rows:
        what, measured, reference, value, bound = map(_plain, cells(row))
        verdict = row.verdict.split(":")[0]
        colour = "green" if verdict == "met" else "red" if row.failed else "yellow"
        table.add_row(
            row.number,
            what,
            "\n".join(filter(None, (measured, reference))),
            value,
            bound,
            f"[{colour}]{verdict}[/]" + (f"\n{row.goal}" if row.goal else ""),
        )
    console.print(table, highlight=False)
    for row in rows:
        if row.error:
            console.print(f"{row.number} was not measured: {row.error}", markup=False, highlight=False)
    console.print(summary(rows), highlight=False)


def _plain(text: str) -> str:
    """Without what rich would take for a style."""
    return text.replace("[", r"\[")


def summary(rows: Sequence[Row]) -> str:
    """``"30 rows: 25 met, 4 missed, 1 not measured"``."""
    counts = Counter("met" if row.verdict == "met" else row.verdict.split(" by ")[0].split(":")[0] for row in rows)
    return f"{len(rows)} rows: " + ", ".join(f"{counts[word]} {word}" for word in ("met", "missed", "not measured"))


def markdown(rows: Sequence[Row], heading: str) -> str:
    """The same in Markdown, with the command of each row."""
    lines = [(*HEAD, "command"), [":--"] * (len(HEAD) + 1)]
    lines += [(row.number, *cells(row), row.verdict, row.goal, f"`{row.command}`") for row in rows]
    # A failure may tell what a process has printed: one line, no cells of its own.
    table = ("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{heading}\n\n" + "\n".join(table) + f"\n\n{summary(rows)}.\n"
