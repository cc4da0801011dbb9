"""Every feature, between every pair of programs: with the original package and with this one, in either role.

The rows are in ``features.py``. ``python -m tests.system.test_matrix`` writes the table of ``docs/migrating.md``, which
must have exactly the rows and columns that are tested here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import heros
from heros.demo.loopback import free_port, zenoh_config
from tests.harness import ORIGINAL, ROOT, Child
from tests.system.features import FEATURES

PROGRAM = Path(__file__).with_name("features.py")
TABLE = ROOT / "docs" / "_generated" / "matrix.md"
ORIGINAL_VERSION = "2026.2.2"
SECONDS = 100.0


@dataclass(frozen=True)
class Direction:
    """Who uses whose HERO, and how."""

    title: str
    original_uses: bool
    original_offers: bool
    transport: str = "auto"

    @property
    def key(self) -> str:
        return self.title.replace(" ", "-").replace(",", "")


DIRECTIONS: Final = (
    Direction("old to new", original_uses=True, original_offers=False),
    Direction("new to old", original_uses=False, original_offers=True),
    Direction("new to new, shm", original_uses=False, original_offers=False, transport="shm"),
    Direction("new to new, net", original_uses=False, original_offers=False, transport="net"),
)


class Pair:
    """The two processes of one direction: one offers HEROs, the other uses them."""

    def __init__(self, direction: Direction) -> None:
        realm = f"test-{uuid.uuid4().hex[:12]}"
        port = free_port()
        environment: dict[str, str | None] = {"HEROS_TRANSPORT": direction.transport}
        if direction.transport != "shm":
            environment["HEROS_NET"] = None
        self.offering = Child(
            PROGRAM,
            *("offer", realm),
            env={**environment, "HEROS_ZENOH_CONFIG": zenoh_config(port, listen=True)},
            interpreter=ORIGINAL if direction.original_offers else None,
        )
        self.using = Child(
            PROGRAM,
            *("use", realm),
            env={**environment, "HEROS_ZENOH_CONFIG": zenoh_config(port, listen=False)},
            interpreter=ORIGINAL if direction.original_uses else None,
        )

        versions = self.offering.ready(SECONDS), self.using.ready(SECONDS)
        originals = direction.original_offers, direction.original_uses
        assert versions == tuple(ORIGINAL_VERSION if original else heros.__version__ for original in originals)

    def run(self, feature: str) -> None:
        """Have the one offer it and the other use it.

        Raises:
            AssertionError: the program that uses it has failed, or does not end.
        """
        self._order(self.offering, "offer", feature)
        self._order(self.using, "use", feature)
        self._order(self.offering, "end", feature)

    @staticmethod
    def _order(child: Child, order: str, feature: str) -> None:
        child.say(f"{order} {feature}")
        failure = json.loads(child.expect("DONE", SECONDS))
        assert failure is None, failure

    @property
    def output(self) -> str:
        return f"{self.offering.output}\n{self.using.output}"

    def close(self) -> None:
        for child in (self.using, self.offering):
            child.close()


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[Direction, Pair]]:
    """Those that run, by direction: two processes for all features, as long as they work."""
    pairs: dict[Direction, Pair] = {}
    yield pairs
    for pair in pairs.values():
        pair.close()


@pytest.mark.parametrize("direction", DIRECTIONS, ids=lambda direction: direction.key)
@pytest.mark.parametrize("feature", FEATURES)
def test_feature(feature, direction, pairs):
    if (direction.original_uses or direction.original_offers) and not ORIGINAL.exists():
        pytest.skip("`make test` makes .venv-original")
    pair = pairs.get(direction)
    if pair is None:
        pair = pairs[direction] = Pair(direction)
    try:
        pair.run(feature)
    except AssertionError as error:
        del pairs[direction]  # the next feature begins anew
        error.add_note(pair.output)
        pair.close()
        raise


# -- the page -------------------------------------------------------------------------------------------------


def table() -> str:
    """The matrix, as it is tested: a row for each feature, a column for each direction."""
    titles = [direction.title for direction in DIRECTIONS]
    lines = [f"| feature | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    lines += [f"| {feature.title} | {' | '.join('yes' for _ in DIRECTIONS)} |" for feature in FEATURES.values()]
    return "\n".join(lines) + "\n"


def test_the_table_on_the_page_is_what_is_tested():
    assert TABLE.read_text(encoding="utf-8") == table(), "write it: python -m tests.system.test_matrix"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
