"""The leak oracle goes red on every kind of leak, and green again when the thing is gone."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Child
from tests.oracle import Leak, Oracle

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the oracle reads /proc")

Undo = Callable[[], object]


def leak_descriptor(_: Path) -> Undo:
    fd = os.eventfd(0)
    return lambda: os.close(fd)


def leak_thread(_: Path) -> Undo:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()

    def undo() -> None:
        end.set()
        thread.join()

    return undo


def leak_mapping(_: Path) -> Undo:
    fd = os.memfd_create("heros-test")
    os.ftruncate(fd, 4096)
    mapping = mmap.mmap(fd, 4096)
    os.close(fd)
    return mapping.close


def leak_file(directory: Path) -> Undo:
    directory.mkdir()
    path = directory / "record"
    path.touch()
    return path.unlink


def leak_shared_memory(_: Path) -> Undo:
    path = Path("/dev/shm") / f"heros-test-{os.getpid()}"
    path.touch()
    return path.unlink


LEAKS = [
    (leak_descriptor, "eventfd"),
    (leak_thread, "thread"),
    (leak_mapping, "memfd"),
    (leak_file, "record"),
    (leak_shared_memory, "/dev/shm"),
]


@pytest.mark.parametrize(("leak", "word"), LEAKS, ids=[leak.__name__ for leak, _ in LEAKS])
def test_a_leak_is_seen_and_named(leak: Callable[[Path], Undo], word: str, tmp_path: Path) -> None:
    directory = tmp_path / "runtime"
    oracle = Oracle([directory])
    oracle.check(0)
    undo = leak(directory)
    with pytest.raises(Leak, match=word):
        oracle.check(0.05)
    undo()
    oracle.check()


def test_a_leak_that_is_mended_in_time_is_none(tmp_path: Path) -> None:
    oracle = Oracle()
    fd = os.eventfd(0)
    timer = threading.Timer(0.2, os.close, [fd])
    timer.start()
    oracle.check()
    timer.join()


def test_a_leak_in_a_child_is_seen_and_ends_with_it() -> None:
    program = "import os, sys\nprint('READY')\nfor line in sys.stdin: os.eventfd(0); print('LEAKED')"
    with Child(program) as child:
        child.ready()
        oracle = Oracle(pids=[child.pid])
        oracle.check(0)
        child.say("leak")
        child.expect("LEAKED")
        with pytest.raises(Leak, match=f"process {child.pid}.*eventfd"):
            oracle.check(0.05)
        child.kill9()
        oracle.check()


def test_the_fixture_watches_the_runtime_directory(leak_oracle: Oracle, runtime_directory: Path) -> None:
    runtime_directory.mkdir()
    path = runtime_directory / "record"
    path.touch()
    assert any("record" in leak for leak in leak_oracle.leaks())
    path.unlink()
