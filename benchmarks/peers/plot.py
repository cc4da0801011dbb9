"""The results as one figure: how long an array takes, over its size, and a call. Readable on light and on dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from .cases import SIZES, Case, Memory, size_name
from .results import Results

__all__ = ["draw"]

INK: Final = "#808080"
"""Of text and axes: a grey with the same contrast to white and to black; the background stays transparent."""

COLOURS: Final = {
    "heros-shm": "#e8590c",
    "heros-net": "#f08c00",
    "original": "#c2255c",
    "zenoh": "#1c7ed6",
    "pyzmq": "#2f9e44",
    "pyro": "#7048e8",
    "rpyc": "#0c8599",
    "iceoryx2": "#66a80f",
    "manager": "#a0785a",
}
"""One a peer, the same in both halves, of middling lightness; what is not here, the floor, is grey."""

STYLE: Final = {
    "svg.fonttype": "none",  # text stays text: small, and it can be searched
    "svg.hashsalt": "heros",  # the same results give the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.25,
}


def draw(results: Results, path: Path) -> None:
    """Write the figure to ``path``, an SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(10, 4.4), layout="constrained")
        left, right = canvas.subplots(1, 2, width_ratios=(3, 2))
        _arrays(results, left)
        _calls(results, right)
        canvas.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        canvas.savefig(path, transparent=True, metadata={"Date": None})


def _arrays(results: Results, axes: Any) -> None:
    memories: tuple[tuple[Memory, str], ...] = (("ordinary", "-"), ("pooled", "--"))
    for peer, title in results.titles.items():
        for memory, dashes in memories:
            points = [
                (nbytes, found.p50 * 1e6)
                for nbytes in SIZES
                if (found := results.get(peer, Case("result", nbytes, memory).key)) is not None and found.p50
            ]
            if not points:
                continue
            label = "memcpy" if peer == "floor" else title if memory == "ordinary" else f"{title}, pooled"
            axes.plot(
                [nbytes for nbytes, _ in points],
                [micros for _, micros in points],
                linestyle=":" if peer == "floor" else dashes,
                linewidth=2.5 if peer == "heros-shm" else 1.3,
                marker="o",
                markersize=3,
                color=COLOURS.get(peer, INK),
                label=label,
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(SIZES, [size_name(nbytes) for nbytes in SIZES])
    axes.minorticks_off()
    axes.set_title("An array as result, p50")
    axes.set_ylabel("microseconds")
    axes.grid(visible=True)


def _calls(results: Results, axes: Any) -> None:
    bars = [
        (title, found.p50 * 1e6, COLOURS.get(peer, INK))
        for peer, title in results.titles.items()
        if (found := results.get(peer, Case("call").key)) is not None and found.p50
    ]
    bars.sort(key=lambda bar: -bar[1])
    drawn = axes.barh([bar[0] for bar in bars], [bar[1] for bar in bars], color=[bar[2] for bar in bars])
    axes.bar_label(drawn, [f"{bar[1]:.3g}" for bar in bars], padding=3, color=INK)
    axes.set_xscale("log")
    if bars:  # a bar has no zero to begin at; room for the numbers on the right
        axes.set_xlim(min(bar[1] for bar in bars) / 3, max(bar[1] for bar in bars) * 4)
    axes.minorticks_off()
    axes.set_title("add(1, 2), p50")
    axes.set_xlabel("microseconds")
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
