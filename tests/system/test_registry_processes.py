"""The host's registry between processes: death, races, cleaning up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heros.entry import Entry
from heros.workers import Workers

if sys.platform != "linux":
    pytest.skip("host entries are kept on Linux only", allow_module_level=True)

from heros.registry import Registry, locks
from heros.registry.nodes import Nodes
from tests.harness import wait_until

PEER = Path(__file__).with_name("registry_peer.py")
ROOT = Path(__file__).parents[2]


def files_in(directory: Path) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(path, name), directory)
        for path, folders, files in os.walk(directory)  # which passes over what is removed meanwhile
        for name in folders + files
    )


EMPTY = ["nodes", "realms"]


class Process:
    """A ``registry_peer``: attributes are its commands."""

    def __init__(self, directory: Path, opened: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.pid = self.process.pid
        if opened:
            self.node_id = self.ask("open")

    def tell(self, *command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def ask(self, *command: Any) -> Any:
        self.tell(*command)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # a command that nobody read


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="h") as path:  # not tmp_path: a socket's path is short
        yield Path(path)


@pytest.fixture
def start(directory: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start_one(opened: bool = True) -> Process:
        started.append(Process(directory, opened))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()


@pytest.fixture
def registry(directory: Path) -> Iterator[Registry]:
    workers = Workers("test")
    registry = Registry(directory, uuid.uuid4().hex, workers)
    yield registry
    registry.close()
    workers.stop()


class Told:
    def __init__(self) -> None:
        self.present: set[str] = set()
        self.gone: list[str] = []

    def added(self, entry: Entry) -> None:
        assert entry.instance not in self.present
        self.present.add(entry.instance)

    def removed(self, entry: Entry) -> None:
        self.present.remove(entry.instance)
        self.gone.append(entry.instance)


# -- death --------------------------------------------------------------------------------------------------------


def test_killed_process_vanishes_at_the_next_lookup_and_watchers_are_told(
    start: Callable[..., Process], registry: Registry, directory: Path
) -> None:
    told = Told()
    registry.watch("lab", told.added, told.removed)
    clean = files_in(directory)
    server, other = start(), start()
    instances = {server.ask("add", f"s{number}") for number in range(50)}
    wait_until(lambda: told.present == instances)
    assert other.ask("find", "s7") == [entry.instance for entry in registry.find("lab", "s7")] != []
    server.kill()
    assert other.ask("find", "s7") == []
    assert registry.find("lab", "s8") == registry.entries("lab") == []
    wait_until(lambda: not told.present)
    assert sorted(told.gone) == sorted(instances)
    other.ask("close")
    wait_until(lambda: files_in(directory) == clean)


def test_watcher_is_told_of_a_death_that_nobody_else_notices(start: Callable[..., Process], registry: Registry) -> None:
    told = Told()
    registry.watch("lab", told.added, told.removed)
    for _ in range(8):
        server = start()
        instance = server.ask("add", "s")
        wait_until(lambda: told.present == {instance})  # noqa: B023
        server.kill()
        wait_until(lambda: not told.present)
    assert len(told.gone) == 8


def test_dead_ones_are_cleaned_up_by_one_lookup_of_one_name(
    start: Callable[..., Process], registry: Registry, directory: Path
) -> None:
    clean = files_in(directory)
    server = start()
    server.ask("add_many", 300)
    server.kill()
    assert registry.find("lab", "s5") == []
    wait_until(lambda: files_in(directory) == clean)


def test_those_who_ask_at_the_same_moment_do_not_take_each_other_for_the_owner(
    start: Callable[..., Process], registry: Registry
) -> None:
    server = start()
    server.ask("add", "s")
    fd = os.open(registry.directory / "nodes" / f"{server.node_id}.lock", os.O_RDONLY)
    server.kill()
    assert locks.share(fd)  # as one does who asks whether the server lives
    try:
        assert registry.find("lab", "s") == []
    finally:
        locks.release(fd)


def test_dead_process_without_a_hero_is_cleaned_up_by_the_next_one(
    start: Callable[..., Process], directory: Path
) -> None:
    for leave in ("kill", "close"):
        dead, last = start(), start()
        (directory / "nodes" / f"{dead.node_id}.sock").touch()
        (directory / "nodes" / f"{dead.node_id}.new").touch()
        dead.kill()
        if leave == "close":
            last.ask("close")
        else:
            last.kill()
            start().ask("close")
        assert files_in(directory) == EMPTY


def test_stopped_process_is_not_a_dead_one(start: Callable[..., Process], registry: Registry) -> None:
    server = start()
    instance = server.ask("add", "s")
    os.kill(server.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, server.pid, os.WSTOPPED)
    assert [entry.instance for entry in registry.find("lab", "s")] == [instance]
    os.kill(server.pid, signal.SIGCONT)
    server.ask("remove", "s")
    assert registry.find("lab", "s") == []


def test_restart_under_the_name_while_the_old_records_are_there(
    start: Callable[..., Process], registry: Registry
) -> None:
    told = Told()
    registry.watch("lab", told.added, told.removed)
    for _ in range(5):
        server = start()
        instance = server.ask("add", "s", True)
        assert instance, "a dead one had the name"
        assert [entry.instance for entry in registry.find("lab", "s")] == [instance]
        wait_until(lambda: told.present == {instance})  # noqa: B023
        server.kill()


def test_pid_of_the_dead_given_to_another_process(start: Callable[..., Process], registry: Registry) -> None:
    """What the entries and the lock file say of pids decides nothing: here all of them name this, live process."""
    server = start()
    server.ask("add", "s")
    (registry.directory / "nodes" / f"{server.node_id}.lock").write_text(f"{os.getpid()} {namespace()}\n")
    [entry] = (registry.directory / "realms" / "lab" / "s").iterdir()
    entry.write_bytes(entry.read_bytes().replace(b'"pid":%d' % server.pid, b'"pid":%d' % os.getpid()))
    assert [entry.pid for entry in registry.find("lab", "s")] == [os.getpid()]
    server.kill()
    assert registry.find("lab", "s") == []


def test_watcher_is_not_taken_in_by_a_wrong_pid(
    start: Callable[..., Process], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pidfd is of an unrelated process. Its end is not the node's; the node's own is noticed all the same."""
    monkeypatch.setattr("heros.registry.watch.POLL_SECONDS", 0.01)
    server, unrelated = start(), start()
    instance = server.ask("add", "s")
    lock = registry.directory / "nodes" / f"{server.node_id}.lock"
    lock.write_text(f"{unrelated.pid} {namespace()}\n")
    told = Told()
    registry.watch("lab", told.added, told.removed)
    wait_until(lambda: told.present == {instance})
    guard = registry._watcher._guards[server.node_id]
    unrelated.kill()
    wait_until(lambda: guard.timer is not None)
    assert told.present == {instance}
    server.kill()
    wait_until(lambda: not told.present)


def test_node_of_another_pid_namespace_is_polled(
    start: Callable[..., Process], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heros.registry.watch.POLL_SECONDS", 0.01)
    server = start()
    instance = server.ask("add", "s")
    (registry.directory / "nodes" / f"{server.node_id}.lock").write_text(f"{os.getpid()} 1\n")
    told = Told()
    registry.watch("lab", told.added, told.removed)
    wait_until(lambda: told.present == {instance})
    assert registry._watcher._guards[server.node_id].pidfd == -1
    server.kill()
    wait_until(lambda: not told.present)


def namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


# -- fork ---------------------------------------------------------------------------------------------------------


def test_forked_child_that_lives_on_does_not_keep_its_parent_alive(
    start: Callable[..., Process], registry: Registry
) -> None:
    told = Told()
    registry.watch("lab", told.added, told.removed)
    server = start()
    instance = server.ask("add", "s")
    wait_until(lambda: told.present == {instance})
    child = server.ask("fork", True)
    try:
        assert registry.find("lab", "s"), "the child has withdrawn what is the parent's"
        server.process.kill()
        server.process.wait()
        wait_until(lambda: registry.find("lab", "s") == [])
        wait_until(lambda: not told.present)
    finally:
        os.kill(child, signal.SIGKILL)


def test_lock_held_by_a_child_is_noticed_when_the_child_ends(
    start: Callable[..., Process], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that Python does not know of cannot let go. The lock is the fact, and it is looked at again."""
    monkeypatch.setattr("heros.registry.watch.POLL_SECONDS", 0.01)
    told = Told()
    registry.watch("lab", told.added, told.removed)
    server = start()
    instance = server.ask("add", "s")
    wait_until(lambda: told.present == {instance})
    guard = registry._watcher._guards[server.node_id]
    child = server.ask("fork", False)
    server.kill()
    wait_until(lambda: guard.timer is not None)
    assert registry.find("lab", "s")
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not told.present)


def test_child_that_was_forked_in_an_addition_does_not_keep_the_name_locked(start: Callable[..., Process]) -> None:
    server, other = start(), start()
    child = server.ask("fork_before_rename", "s")
    try:
        other.ask("patience", 0.05)
        assert other.ask("add", "s")
    finally:
        os.kill(child, signal.SIGKILL)


# -- crashes at bad moments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("die_before_rename", "s"), ("die_before_lock",)])
def test_crash_on_the_way_leaves_nothing_for_ever(
    start: Callable[..., Process], directory: Path, command: tuple[str, ...]
) -> None:
    victim = start(opened=command[0] != "die_before_lock")
    victim.tell(*command)
    victim.process.wait()
    left = files_in(directory)
    assert len(left) > len(EMPTY)
    other = start()
    assert other.ask("find", "s") == []
    assert other.ask("add", "t", True)
    other.ask("close")
    assert files_in(directory) == EMPTY


def test_one_who_is_stopped_while_adding_is_named_as_the_reason(
    start: Callable[..., Process], registry: Registry
) -> None:
    stopped, other = start(), start()
    stopped.tell("stop_before_rename", "s")
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
    other.ask("patience", 0.05)
    assert other.ask("find", "s") == []  # looking up needs no lock
    assert other.ask("add", "t")  # nor do other names need this one's
    with pytest.raises(RuntimeError, match=r"adding a HERO 's'.*stopped"):
        other.ask("add", "s")
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.answer()
    assert other.ask("add", "s")
    assert len(registry.find("lab", "s")) == 2


# -- races ----------------------------------------------------------------------------------------------------------


def test_of_eight_that_want_a_name_for_themselves_exactly_one_gets_it(
    start: Callable[..., Process], registry: Registry
) -> None:
    """50 times; every other time there are dead entries in the way, or the folder is being removed by its last one."""
    processes = [start() for _ in range(8)]
    winner: Process | None = None
    for number in range(50):
        if winner is not None and number % 10 == 0:
            processes.remove(winner)
            winner.kill()
            processes.append(start())
        elif winner is not None:
            winner.ask("remove", "contested")
        when = time.monotonic() + 0.02
        for process in processes:
            process.tell("add_at", when, "contested")
        won = [process for process in processes if process.answer()]
        assert len(won) == 1
        winner = won[0]
        assert [entry.node_id for entry in registry.find("lab", "contested")] == [winner.node_id]


def test_storm_of_additions_removals_and_lookups(
    start: Callable[..., Process], registry: Registry, directory: Path
) -> None:
    clean = files_in(directory)
    told = Told()
    registry.watch("lab", told.added, told.removed)
    processes = [start() for _ in range(4)]
    for seed, process in enumerate(processes):
        process.tell("storm", 1.0, seed)
    for process in processes:
        rounds, missing = process.answer()
        assert rounds > 0
        assert missing == 0
    wait_until(lambda: told.present == {entry.instance for entry in registry.entries("lab")})
    for process in processes[:2]:
        process.kill()
    for process in processes[2:]:
        process.ask("close")
    wait_until(lambda: not told.present)
    wait_until(lambda: files_in(directory) == clean)


def test_a_node_that_comes_while_it_is_cleaned_up_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, remove = Nodes(tmp_path), Nodes.remove_files
    joined: list[int] = []

    def remove_late(self: Nodes, node_id: str) -> None:
        comer.start()
        comer.join(0.2)  # it may be there at once, or wait for its turn
        remove(self, node_id)

    comer = threading.Thread(target=lambda: joined.append(nodes.join("node")))
    monkeypatch.setattr(Nodes, "remove_files", remove_late)
    nodes.socket_path("node").touch()  # all that a dead one has left
    nodes.remove_if_dead("node")
    comer.join(20)
    assert nodes.is_alive("node")
    locks.release(joined[0])


def test_joining_and_leaving_while_others_clean_up(start: Callable[..., Process], directory: Path) -> None:
    processes = [start() for _ in range(4)]
    for process, command in zip(processes, ("rejoin", "rejoin", "sweep", "sweep"), strict=True):
        process.tell(command, 1.0)
    for process in processes:
        assert process.answer() > 0
    for process in processes:
        process.ask("close")
    assert files_in(directory) == EMPTY


def test_threads_of_one_process(registry: Registry) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for round_ in range(30):
                entry = Entry("lab", f"s{(number + round_) % 3}", uuid.uuid4().hex, registry.node_id)
                registry.add(entry)
                assert entry in registry.find("lab", entry.name)
                registry.remove(entry)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert registry.entries("lab") == []


# -- leaks ----------------------------------------------------------------------------------------------------------


def test_deaths_leave_no_descriptor_thread_or_file_with_those_who_watch(
    start: Callable[..., Process], registry: Registry, directory: Path
) -> None:
    def cycle() -> None:
        told = Told()
        stop = registry.watch("lab", told.added, told.removed)
        servers = [start() for _ in range(3)]
        for server in servers:
            server.ask("add", "s")
        wait_until(lambda: len(told.present) == 3)
        for server in servers:
            server.kill()
        wait_until(lambda: not told.present)
        stop()
        wait_until(lambda: registry._watcher._inotify is None)
        wait_until(lambda: files_in(directory) == clean)

    clean = files_in(directory)
    cycle()
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == descriptors
