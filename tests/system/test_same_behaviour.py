"""The same program with the original and with this package tells the same, but for what is listed here.

The programs are in ``behaviour/``. Each prints facts, one a line; those that differ must be in ``DIFFERENCES``, with
the heading in ``docs/migrating.md`` under which the reason stands. A difference that is not there, and an entry that no
longer is one, fail.
"""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

from heros.demo.loopback import free_port, zenoh_config
from tests.harness import ORIGINAL, ROOT, Child

pytestmark = pytest.mark.skipif(not ORIGINAL.exists(), reason="`make test` makes .venv-original")

BEHAVIOUR = Path(__file__).parent / "behaviour"
PAGE = ROOT / "docs" / "migrating.md"
SECONDS = 90.0

DIFFERENCES: dict[str, dict[str, str]] = {
    "offers": {
        r"capability (handler|old_handler)|signature (handler|old_handler)": "Signatures",
        r"capability (defaults|read_only|shared)": "Signatures",
        r"signature \w+": "Signatures",
        r"arguments changed": "Constructors",
    },
    "values": {
        r"(result|echo|owner sees) (bytearray|frozenset|memoryview)": "Values",
        r"(result|echo|owner sees) (naive datetime|time|timedelta|Path|range)": "Values",
        r"(result|echo|owner sees) np\.\w+": "Values",
        r"(result|echo|owner sees) array (datetime|structured|of objects)": "Values",
        r"opaque gone": "Values",
    },
    "errors": {
        r".* remote_module|made here": "Exceptions",
        r".* args": "Exceptions",
        r"(UnicodeDecodeError|StopIteration) .*": "Exceptions",
        r"AttributeError in a getter .*": "Exceptions",
    },
    "events": {
        r"to remote is_callback": "Events",
        r"after one that raises|and again": "Events",
    },
    "observers": {},
    "datasources": {
        r"from_data (pair of two numbers|dict of lists of two numbers|list of pairs of ints|mixed list)": "Datasources",
        r"conversion 'x / 0'": "Datasources",
        r"conversion (?!'x / 0').*": "Datasources",
        r"raw_unit of the definition": "Datasources",
    },
    "wire": {},
}
"""Program to pattern of facts to the heading on the page."""


def told(child: Child) -> dict[str, str]:
    facts: dict[str, str] = {}
    while "finished" not in facts:
        key, value = json.loads(child.expect("SAYS", SECONDS))
        facts[key] = value
    return facts


def run(program: str, original: bool, transport: str = "auto") -> dict[str, str]:
    port = free_port()
    env: dict[str, str | None] = {
        "HEROS_NET": None,
        "HEROS_ZENOH_CONFIG": zenoh_config(port, listen=True),
        "HEROS_TEST_CONNECT": zenoh_config(port, listen=False),
        "HEROS_TRANSPORT": transport,
    }
    realm = f"test-{uuid.uuid4().hex[:12]}"
    interpreter = ORIGINAL if original else None
    with Child(BEHAVIOUR / f"{program}.py", realm, env=env, interpreter=interpreter) as child:
        return {key: value.replace(realm, "REALM") for key, value in told(child).items()}


@pytest.mark.parametrize("program", DIFFERENCES)
def test_what_programs_see(program):
    theirs = run(program, original=True)
    for transport in ("auto",) if program in ("datasources", "wire") else ("shm", "net"):
        ours = run(program, original=False, transport=transport)
        differing = {key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)}
        patterns = DIFFERENCES[program]
        unlisted = [key for key in differing if not any(re.fullmatch(pattern, key) for pattern in patterns)]
        assert {key: (theirs.get(key), ours.get(key)) for key in unlisted} == {}, transport
        unused = [pattern for pattern in patterns if not any(re.fullmatch(pattern, key) for key in differing)]
        assert not unused, transport


def test_every_difference_has_its_reason_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (.+)$", page, re.MULTILINE))
    assert {heading for patterns in DIFFERENCES.values() for heading in patterns.values()} <= headings
