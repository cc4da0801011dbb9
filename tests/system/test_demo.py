"""The demo as a user runs it: its table, its exit code, and what is left when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from heros.version import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory():
    """A temporary directory whose path is short, as that of a unix socket must be."""
    with tempfile.TemporaryDirectory(prefix="h-") as path:
        yield Path(path)


def start(directory, *arguments):
    """``python -m heros``, with a temporary directory of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "heros", *arguments],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(directory, *arguments):
    process = start(directory, *arguments)
    output, errors = process.communicate()
    return process.returncode, output, errors


def rows(output):
    """The rows of the table, by reader: a list of texts."""
    lines = [line.split() for line in output.splitlines()]
    return {words[0]: words[1:] for words in lines if len(words) == 9 and words[1] in ("inproc", "shm", "net")}


def number(text):
    return float(text.replace(",", ""))


def test_demo(directory):
    code, output, errors = run(directory, "demo", "--seconds", "2")
    assert code == 0, output + errors
    table = rows(output)
    assert {reader: row[0] for reader, row in table.items()} == {"local": "shm", "remote": "net", "slow": "shm"}
    for _, p50, p99, rate, bandwidth, counted, reported, verified in table.values():
        assert 0 < number(p50) <= number(p99)
        assert number(rate) > 0
        assert number(bandwidth) > 0
        assert counted == reported
        assert number(verified) > 0
    assert number(table["slow"][5]) > 0, "the slow reader must have missed frames"
    assert "OK" in output
    assert errors == ""
    assert list(directory.iterdir()) == []


def begun(directory):
    """A demo that is acquiring, and its four processes."""
    process = start(directory, "demo", "--seconds", "20")
    for line in process.stdout:
        if line.startswith("acquiring"):
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) == 4
            return process, children
    pytest.fail(f"the demo ended before it acquired: {process.stderr.read()}")


def check_nothing_is_left(directory, children):
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert list(directory.iterdir()) == []


def test_ctrl_c(directory):
    process, children = begun(directory)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.strip() == "Aborted!"
    check_nothing_is_left(directory, children)


@pytest.mark.parametrize(("module", "name"), [("heros.demo.acquire", "acquisition"), ("heros.demo.follow", "reader")])
def test_a_process_that_dies(directory, module, name):
    process, children = begun(directory)
    victim = next(child for child in children if module in child.cmdline())
    victim.kill()
    _, errors = process.communicate()
    assert process.returncode == 1
    assert f"pid {victim.pid}" in errors
    assert name in errors
    assert f"exit code is {-signal.SIGKILL}" in errors
    check_nothing_is_left(directory, children)


def test_version(directory):
    code, output, _ = run(directory, "--version")
    assert code == 0
    assert output.strip() == f"heros, version {__version__}"


@pytest.mark.parametrize("arguments", [["demo", "--seconds", "100"], ["demo", "now"], ["nothing"]])
def test_wrong_usage_is_told_without_a_traceback(directory, arguments):
    code, _, errors = run(directory, *arguments)
    assert code == 2
    assert "Error:" in errors
    assert "Traceback" not in errors
