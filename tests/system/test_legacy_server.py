"""HEROs of ours as programs of the original package see them: one test for each thing that these can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import wait_until
from tests.system.lab import Instrument
from tests.system.original import Original, OriginalError, original_python

pytestmark = pytest.mark.skipif(
    original_python() is None, reason="the original heros is not installed: make .venv-original/.installed"
)


@pytest.fixture
def hero(net_realm: str) -> Instrument:
    return Instrument("one", net_realm)


@pytest.fixture
def original(net_realm: str, hero: Instrument) -> Iterator[Any]:
    """A process of the original, with a proxy ``one`` of the HERO."""
    with Original(net_realm, int(os.environ["HEROS_TEST_PORT"])) as process:
        process.ask("one = find('one')")
        yield process
        process.end(60)


# -- calls ------------------------------------------------------------------------------------------------------------


def test_a_method_is_called(original):
    assert original.ask("[one.add(1), one.add(1, 5), one.add(a=1, b=2, c=3)]") == [3, 6, 6]
