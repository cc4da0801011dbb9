"""The comparison with the peers, as far as it needs this package alone: its protocol, its results, its failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.cases import EVENTS, SIZES, Case, Effort, all_cases
from benchmarks.peers.driver import Missing, Pair, PeerFailed
from benchmarks.peers.results import Results
from benchmarks.peers.roster import ROSTER, Entry
from benchmarks.peers.table import markdown

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory and eventfds are Linux's")

FEW = Effort(repeat=3, warmup=1, seconds=5.0)


def test_quick_run(tmp_path):
    output = tmp_path / "peers.json"
    command = [sys.executable, "-m", "benchmarks.peers.run", "--quick", "--peers", "heros-shm", "--output", output]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(output.read_text(encoding="utf-8"))
    assert data["failures"] == {}
    assert data["missing"] == {"heros-shm": {}}
    figures = data["figures"]["heros-shm"]
    assert list(figures) == [case.key for case in all_cases(quick=True)]
    for key, figure in figures.items():
        if key.startswith("events"):
            assert 0 < figure["count"] == figure["published"] - figure["lost"] <= 200
            assert figure["rate"] > 0
        else:
            assert figure["count"] == 10
            assert 0 < figure["p50"] <= figure["p99"]
    assert "heros, shared memory" in markdown(Results.read(output))
    assert "add(1, 2)" in done.stdout


def test_every_case_of_this_package():
    """Also the sizes that ``--quick`` leaves out, and both ends of the range of samples."""
    with Pair(ROSTER["heros-shm"]) as pair:
        for kind in ("result", "argument"):
            for memory in ("ordinary", "pooled"):
                assert 1 <= len(pair.measure(Case(kind, SIZES[-1], memory), FEW).nanoseconds) <= 3
        for nbytes, memory in EVENTS:
            sample = pair.measure(Case("events", nbytes, memory), Effort(20, 0, 5.0))
            assert sample.published == 20
            assert 1 <= sample.received <= 20
        assert "heros" in pair.versions


def test_what_a_peer_does_not_offer_is_missing():
    with Pair(ROSTER["spin"]) as pair, pytest.raises(Missing):
        pair.measure(Case("result", 1024), FEW)


def test_a_peer_that_cannot_start_is_told_in_words():
    entry = Entry("broken", "broken", "no_such_script.py")
    with pytest.raises(PeerFailed, match=r"(?s)broken, server: .*no_such_script"):
        Pair(entry)


def test_the_processes_end_with_the_pair():
    with Pair(ROSTER["floor"]) as pair:
        pids = pair.pids
        assert len(pair.measure(Case("call"), FEW).nanoseconds) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_peer_that_dies_is_told_in_words():
    with Pair(ROSTER["floor"]) as pair:
        os.kill(pair.pids[0], signal.SIGKILL)
        with pytest.raises(PeerFailed, match=r"floor, server: ended with exit code -9"):
            pair.measure(Case("call"), FEW)
        pair.close(in_order=False)
