"""The benchmarks as commands, as far as they need this package alone: they run, and write what they have found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ORIGINAL

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory and eventfds are Linux's")


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_one_target(tmp_path):
    output = tmp_path / "targets.json"
    done = run("benchmarks.targets", "--only", "9", "--quick", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert [row["number"] for row in rows] == ["9.1", "9.2", "9.3", "9.4", "9.5"]
    for row in rows:
        assert row["verdict"] == "met" or row["verdict"].startswith("missed by ")
        assert not row["failed"]
        assert row["command"] == f"python -m benchmarks.targets --only {row['number']}"
        assert row["finding"]["measured"]["value"] > 0
        assert row["finding"]["reference"]["value"] > 0


def test_a_target_that_there_is_not():
    done = run("benchmarks.targets", "--only", "12")
    assert done.returncode == 2
    assert "there is no target 12" in done.stderr


def test_scale(tmp_path):
    output = tmp_path / "scale.json"
    done = run("benchmarks.scale", "--quick", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(output.read_text(encoding="utf-8"))
    assert data["failures"] == {}
    assert len(data["series"]) == 7
    for series in data["series"]:
        assert [number for number, _ in series["points"]] in ([1, 10], [1, 100])
    assert all(value > 0 for series in data["series"] if series["unit"] == "s" for _, value in series["points"])


@pytest.mark.skipif(not ORIGINAL.exists(), reason="there is no environment with the original: make test")
def test_network_scale(tmp_path):
    output = tmp_path / "network_scale.json"
    done = run("benchmarks.network_scale", "--quick", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(output.read_text(encoding="utf-8"))
    assert data["failures"] == {}
    entities = [sum(column["server, all"]["entities"].values()) for column in data["columns"].values()]
    assert entities == [6 + 20, 8 + 20, 8 + 20, 160]


def test_reconnect():
    done = run("benchmarks.reconnect", "--quick", "--only", "kill -9, shm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "restarted after kill -9" in done.stdout
