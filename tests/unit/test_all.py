"""``__all__`` of each module is exact: it names nothing that is not there, and everything that others use."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import heros

ROOT = Path(heros.__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "heros").rglob("*.py"))
    if path.stem != "__main__"
}


def uses(module: str) -> Iterator[tuple[str, str]]:
    """The modules of heros, and the names in them, that ``module`` imports, or takes from a module that it imports."""
    tree = ast.parse(MODULES[module].read_text())
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                if whole not in MODULES:
                    yield node.module, name.name
                elif node.col_offset == 0:  # inside a function the name may be another thing elsewhere
                    modules[name.asname or name.name] = whole
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_there(module):
    names = getattr(importlib.import_module(module), "__all__", ())
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_what_is_used_from_outside_is_listed(module):
    unlisted = {
        (source, name)
        for source, name in uses(module)
        if name not in getattr(importlib.import_module(source), "__all__", ())
    }
    assert unlisted == set()
