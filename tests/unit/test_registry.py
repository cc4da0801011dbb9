"""The registry within one process: names and places, what is checked, and the contract on both implementations."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heros.entry import Entry
from heros.exceptions import HEROSError, NameInUse
from heros.limits import MAX_ENTRY_BYTES, MAX_NAME_LENGTH
from heros.workers import Workers

if sys.platform != "linux":
    pytest.skip("host entries are kept on Linux only", allow_module_level=True)

from heros.registry import host, locks, process, runtime_directory
from heros.registry.entries import folder_name
from tests.harness import wait_until


def unique() -> str:
    return uuid.uuid4().hex


def entry_of(registry: Any, name: str, realm: str = "lab", **fields: Any) -> Entry:
    return Entry(realm, name, unique(), registry.node_id, pid=os.getpid(), host="here", class_name="Stage", **fields)


def files_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="h") as path:  # not tmp_path: a socket's path is short
        yield Path(path)


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers("test")
    yield workers
    workers.stop()


@pytest.fixture
def open_registry(directory: Path, workers: Workers) -> Iterator[Callable[..., host.Registry]]:
    opened: list[host.Registry] = []

    def open_one(node_id: str = "") -> host.Registry:
        opened.append(host.Registry(directory, node_id or unique(), workers))
        return opened[-1]

    yield open_one
    for registry in opened:
        registry.close()


@pytest.fixture
def registry(open_registry: Callable[..., host.Registry]) -> host.Registry:
    return open_registry()


class Told:
    """Callbacks for ``watch`` that note what they were told."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []

    def added(self, entry: Entry) -> None:
        self.log.append(("added", entry.instance))

    def removed(self, entry: Entry) -> None:
        self.log.append(("removed", entry.instance))

    @property
    def present(self) -> set[str]:
        present: set[str] = set()
        for what, instance in list(self.log):
            if what == "added":
                assert instance not in present, "told twice of one"
                present.add(instance)
            else:
                present.remove(instance)
        return present


# -- the names of folders -----------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_NAME_LENGTH)


@given(names, names)
def test_folder_name_is_one_component_that_fits_and_tells_names_apart(one: str, other: str) -> None:
    folder = folder_name(one)
    assert 0 < len(os.fsencode(folder)) <= 255 - len(".json")
    assert "/" not in folder
    assert "\0" not in folder
    assert not folder.startswith(".")
    assert (folder == folder_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["", ".", "..", "../..", "/", "a/b", "\0", "\ud800", ".hidden"])
def test_folder_name_of_names_that_no_hero_has(name: str) -> None:
    folder = folder_name(name)
    assert folder
    assert not set("/\0") & set(folder)
    assert not folder.startswith(".")


def test_folder_names_of_long_names_with_the_same_beginning_differ() -> None:
    assert folder_name("ü" * MAX_NAME_LENGTH) != folder_name("ü" * (MAX_NAME_LENGTH - 1) + "x")


# -- the runtime directory ----------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, directory: Path) -> pytest.MonkeyPatch:
    monkeypatch.delenv("HEROS_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(directory))
    return monkeypatch


def test_runtime_directory_is_the_first_that_is_named(environment: pytest.MonkeyPatch, directory: Path) -> None:
    assert runtime_directory().parent == directory
    (directory / "session").mkdir()
    environment.setenv("XDG_RUNTIME_DIR", str(directory / "session"))
    assert runtime_directory() == directory / "session" / "heros"
    environment.setenv("HEROS_RUNTIME_DIR", str(directory / "own" / "deep"))
    assert runtime_directory() == directory / "own" / "deep"
    assert runtime_directory().is_dir()


def test_runtime_directory_is_absolute(environment: pytest.MonkeyPatch, directory: Path) -> None:
    environment.chdir(directory)
    environment.setenv("HEROS_RUNTIME_DIR", "here")
    assert runtime_directory() == directory / "here"


def test_runtime_directory_is_private(environment: pytest.MonkeyPatch) -> None:
    path = runtime_directory()
    assert path.stat().st_mode & 0o777 == 0o700
    assert path.name == f"heros-{os.getuid()}"


def test_session_directory_that_is_not_there_or_not_ours_is_passed_over(
    environment: pytest.MonkeyPatch, directory: Path
) -> None:
    environment.setenv("XDG_RUNTIME_DIR", str(directory / "nowhere"))
    assert runtime_directory().parent == directory
    environment.setenv("XDG_RUNTIME_DIR", str(directory))
    environment.setattr(os, "getuid", lambda: directory.stat().st_uid + 1)
    (directory / f"heros-{os.getuid()}").mkdir()
    with pytest.raises(HEROSError, match=rf"{directory}/heros-\d+ belongs to user"):  # the XDG one was not tried
        runtime_directory()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_directory_that_others_may_write_to_is_refused(
    environment: pytest.MonkeyPatch, directory: Path, mode: int
) -> None:
    path = directory / "d"
    path.mkdir()
    path.chmod(mode)
    environment.setenv("HEROS_RUNTIME_DIR", str(path))
    with pytest.raises(HEROSError, match=f"others may write to {path}.*HEROS_RUNTIME_DIR"):
        runtime_directory()


def test_directory_of_somebody_else_is_refused(environment: pytest.MonkeyPatch, directory: Path) -> None:
    environment.setenv("HEROS_RUNTIME_DIR", str(directory))
    environment.setattr(os, "getuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(HEROSError, match=r"belongs to user .*HEROS_RUNTIME_DIR"):
        runtime_directory()


def test_symbolic_link_is_refused(environment: pytest.MonkeyPatch, directory: Path) -> None:
    (directory / "real").mkdir(0o700)
    (directory / "link").symlink_to(directory / "real")
    environment.setenv("HEROS_RUNTIME_DIR", str(directory / "link"))
    with pytest.raises(HEROSError, match="symbolic link"):
        runtime_directory()


def test_file_is_refused(environment: pytest.MonkeyPatch, directory: Path) -> None:
    (directory / "file").touch()
    for path in (directory / "file", directory / "file" / "below"):
        environment.setenv("HEROS_RUNTIME_DIR", str(path))
        with pytest.raises(HEROSError, match="HEROS_RUNTIME_DIR"):
            runtime_directory()


# -- the contract, on both implementations ------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param(host, id="host"), pytest.param(process, id="process")])
def pair(request: pytest.FixtureRequest, directory: Path, workers: Workers) -> Iterator[tuple[Any, Any]]:
    """Two nodes in one place."""
    module: ModuleType = request.param
    one, other = (module.Registry(directory, unique(), workers) for _ in range(2))
    yield one, other
    one.close()
    other.close()


def test_what_is_added_is_found_by_everybody_until_it_is_removed(pair: tuple[Any, Any]) -> None:
    one, other = pair
    entry = entry_of(one, "stage", tags=("a", "b"), extra_metadata={"x": "y"}, address="/somewhere")
    assert one.add(entry) == []
    for registry in pair:
        assert registry.find("lab", "stage") == [entry]
        assert registry.find("lab", "Stage") == []
        assert registry.find("heros", "stage") == []
        assert registry.entries("lab") == [entry]
        assert registry.realms() == ["lab"]
    one.remove(entry)
    one.remove(entry)
    assert other.find("lab", "stage") == other.entries("lab") == other.realms() == []


def test_duplicates_are_reported_and_the_newest_is_found_first(pair: tuple[Any, Any]) -> None:
    one, other = pair
    first, second, third = entry_of(one, "s"), entry_of(other, "s"), entry_of(one, "s")
    assert one.add(first) == []
    assert other.add(second) == [first]
    assert one.add(third) == [second, first]
    assert one.find("lab", "s") == other.find("lab", "s") == [third, second, first]
    one.remove(third)
    assert other.find("lab", "s") == [second, first]


def test_exclusive_refuses_a_taken_name_and_leaves_nothing(pair: tuple[Any, Any]) -> None:
    one, other = pair
    entry = entry_of(one, "laser")
    one.add(entry, exclusive=True)
    with pytest.raises(NameInUse, match=rf"'laser'.*Stage in process {os.getpid()} on here"):
        other.add(entry_of(other, "laser"), exclusive=True)
    assert other.find("lab", "laser") == [entry]
    other.add(entry_of(other, "laser", realm="elsewhere"), exclusive=True)
    one.remove(entry)
    other.add(entry_of(other, "laser"), exclusive=True)


def test_entry_of_the_same_instance_is_replaced(pair: tuple[Any, Any]) -> None:
    one, other = pair
    entry = entry_of(one, "s")
    one.add(entry)
    changed = replace(entry, tags=("new",))
    assert one.add(changed, exclusive=True) == []
    assert other.entries("lab") == [changed]


@pytest.mark.parametrize(
    "name", ["ä" * MAX_NAME_LENGTH, "\U0001f52d" * MAX_NAME_LENGTH, ".x", "a b", "100%", "x.json", "~"]
)
def test_names_of_any_characters(pair: tuple[Any, Any], name: str) -> None:
    one, other = pair
    entry, similar = entry_of(one, name, realm=name), entry_of(one, name[:-1] + "_", realm=name)
    one.add(entry)
    one.add(similar)
    assert other.find(name, name) == [entry]
    assert other.realms() == [name]
    assert {found.instance for found in other.entries(name)} == {entry.instance, similar.instance}


def test_what_cannot_be_added(pair: tuple[Any, Any]) -> None:
    one, other = pair
    for bad in (
        entry_of(one, "a/b"),
        entry_of(one, "s", realm=""),
        entry_of(other, "s"),
        replace(entry_of(one, "s"), instance="../x"),
    ):
        with pytest.raises(ValueError, match="cannot"):
            one.add(bad)
    assert one.realms() == []


@pytest.mark.parametrize("name", ["", ".", "..", "/etc", "\0", "*"])
def test_looking_up_what_cannot_be_there(pair: tuple[Any, Any], name: str) -> None:
    one, _ = pair
    one.add(entry_of(one, "s"))
    assert one.find("lab", name) == one.find(name, "s") == one.entries(name) == []


def test_close_withdraws_everything_and_may_be_repeated(pair: tuple[Any, Any]) -> None:
    one, other = pair
    for number in range(5):
        one.add(entry_of(one, f"s{number}"))
    kept = entry_of(other, "s0")
    other.add(kept)
    one.close()
    one.close()
    assert other.entries("lab") == [kept]
    with pytest.raises(HEROSError, match="left the registry"):
        one.add(entry_of(one, "s"))
    with pytest.raises(HEROSError, match="left the registry"):
        one.watch("lab", print, print)


def test_watch_tells_what_is_there_and_then_what_changes(pair: tuple[Any, Any]) -> None:
    one, other = pair
    first, second, elsewhere = entry_of(one, "a"), entry_of(one, "a"), entry_of(one, "a", realm="elsewhere")
    one.add(first)
    told = Told()
    stop = other.watch("lab", told.added, told.removed)
    wait_until(lambda: told.present == {first.instance})
    one.add(elsewhere)
    one.add(second)
    wait_until(lambda: told.present == {first.instance, second.instance})
    one.remove(first)
    wait_until(lambda: told.present == {second.instance})
    one.close()
    wait_until(lambda: told.present == set())
    assert ("added", elsewhere.instance) not in told.log
    stop()
    stop()
    mine = entry_of(other, "mine")
    other.add(mine)
    again = Told()
    other.watch("lab", again.added, again.removed)
    wait_until(lambda: again.present == {mine.instance})
    assert told.present == set()


def test_replaced_entry_is_told_as_removed_and_added(pair: tuple[Any, Any]) -> None:
    one, other = pair
    entry = entry_of(one, "a")
    told = Told()
    other.watch("lab", told.added, told.removed)
    one.add(entry)
    wait_until(lambda: len(told.log) == 1)
    one.add(replace(entry, tags=("new",)))
    wait_until(lambda: len(told.log) == 3)
    assert [what for what, _ in told.log] == ["added", "removed", "added"]


def test_callbacks_run_in_order_one_at_a_time_and_may_raise(
    pair: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = pair
    busy, told, overlaps = threading.Lock(), Told(), []

    def added(entry: Entry) -> None:
        if not busy.acquire(blocking=False):
            overlaps.append(entry)
            return
        told.added(entry)
        time.sleep(0.001)
        busy.release()
        raise RuntimeError("of the callback")

    with caplog.at_level(logging.CRITICAL + 1, "heros"):
        other.watch("lab", added, told.removed)
        for number in range(40):
            entry = entry_of(one, f"s{number % 4}")
            one.add(entry)
            if number % 2:
                one.remove(entry)
        wait_until(lambda: told.present == {entry.instance for entry in one.entries("lab")})
    assert not overlaps


def test_watch_may_be_ended_by_its_own_callback(pair: tuple[Any, Any]) -> None:
    one, other = pair
    one.add(entry_of(one, "a"))
    one.add(entry_of(one, "b"))
    calls: list[Entry] = []
    ended = threading.Event()
    ready = threading.Event()

    def added(entry: Entry) -> None:
        assert ready.wait(20)
        calls.append(entry)
        stop()
        ended.set()

    stop = other.watch("lab", added, calls.append)
    ready.set()
    assert ended.wait(20)
    told = Told()
    other.watch("lab", told.added, told.removed)
    wait_until(lambda: len(told.present) == 2)
    assert len(calls) == 1


def test_close_from_a_callback(pair: tuple[Any, Any]) -> None:
    one, other = pair
    closed = threading.Event()

    def added(entry: Entry) -> None:
        other.close()
        closed.set()

    other.watch("lab", added, added)
    one.add(entry_of(one, "a"))
    assert closed.wait(20)


def test_both_registries_offer_the_same() -> None:
    def offered(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_")}

    assert offered(host.Registry) == offered(process.Registry)


def test_where_there_is_no_fcntl_the_registry_is_of_the_process(directory: Path) -> None:
    """Alone, without what the whole package imports: each part has to see to itself."""
    program = (
        "import sys, types\n"
        "sys.modules['fcntl'] = None\n"
        "package = sys.modules['heros'] = types.ModuleType('heros')\n"
        "package.__path__ = ['heros']\n"
        "from heros.registry import Registry, runtime_directory\n"
        "assert Registry.__module__ == 'heros.registry.process', Registry.__module__\n"
        "assert runtime_directory().is_dir()"
    )
    environment = {**os.environ, "HEROS_RUNTIME_DIR": str(directory)}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], env=environment)


# -- files --------------------------------------------------------------------------------------------------------


def test_the_import_path_gives_the_registry_of_the_host() -> None:
    assert importlib.import_module("heros.registry").Registry is host.Registry


def test_nothing_is_left_after_close(open_registry: Callable[..., host.Registry], directory: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    one, other = open_registry(), open_registry()
    told = Told()
    one.watch("lab", told.added, told.removed)
    for registry in (one, other):
        for number in range(10):
            registry.add(entry_of(registry, f"s{number}"))
    wait_until(lambda: len(told.present) == 20)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(one.socket_path))
    one.close()
    other.close()
    assert files_in(directory) == ["nodes", "realms"]
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def test_descriptors_do_not_depend_on_the_number_of_heros(registry: host.Registry) -> None:
    registry.add(entry_of(registry, "first"))
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        registry.add(entry_of(registry, f"s{number}"))
    registry.entries("lab")
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_lookup_of_one_name_touches_its_own_folder_only(
    registry: host.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: among 2,000 names a lookup opens its folder, reads one entry and looks at one lock."""
    for number in range(2000):
        registry.add(entry_of(registry, f"s{number}"))
    touched: list[str] = []

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **keywords: Any) -> Any:
            touched.append(f"{function.__name__} {path}")
            return function(path, *arguments, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "listdir", "scandir", "stat", "lstat"):
            patch.setattr(os, name, counting(getattr(os, name)))
        found = registry.find("lab", "s1234")
    assert len(found) == 1
    assert len(touched) == 4, touched  # folder, its listing, entry, lock
    assert not any(line.startswith("scandir") for line in touched)


def test_order_does_not_depend_on_the_clock(
    open_registry: Callable[..., host.Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_registry()
    first, second = entry_of(one, "s"), entry_of(one, "s")
    one.add(first)
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)  # the clock was set back, by decades
    one.add(second)
    assert one.find("lab", "s") == [second, first]


def test_entries_that_are_none_are_ignored_and_logged_once(
    registry: host.Registry, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = entry_of(registry, "s")
    registry.add(good)
    folder = directory / "realms" / "lab" / "s"
    fields = json.loads(good.to_json())
    bad = {
        "empty": b"",
        "noise": bytes(range(256)),
        "list": b"[1, 2]",
        "deep": b"[" * 100_000,
        "infinite": json.dumps({**fields, "instance": "infinite", "pid": float("inf")}).encode(),
        "other": json.dumps({**fields, "instance": "other", "name": "t"}).encode(),
        "misnamed": json.dumps({**fields, "instance": "another"}).encode(),
        "climbing": json.dumps({**fields, "instance": "climbing", "node_id": "../../x"}).encode(),
        "large": good.to_json() + b" " * MAX_ENTRY_BYTES,
    }
    for name, data in bad.items():
        (folder / f"{name}.json").write_bytes(data)
    (folder / "directory.json").mkdir()
    (folder / "link.json").symlink_to(folder / f"{good.instance}.json")
    os.mkfifo(folder / "fifo.json")
    (folder / "wrong suffix").write_bytes(good.to_json())
    (directory / "realms" / "file").touch()
    (directory / "realms" / "lab" / "file").touch()
    for _ in range(3):
        assert registry.find("lab", "s") == registry.entries("lab") == [good]
        assert registry.realms() == ["lab"]
        assert registry.find("lab", "file") == registry.entries("file") == []
    complaints = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(complaints) == len(bad) + 4
    long_dead = replace(good, instance="x" * 20, node_id="y" * 300)
    (folder / f"{long_dead.instance}.json").write_bytes(long_dead.to_json())
    assert registry.find("lab", "s") == [good]


def test_record_that_is_too_large_is_refused(registry: host.Registry, directory: Path) -> None:
    with pytest.raises(HEROSError, match="extra_metadata"):
        registry.add(entry_of(registry, "s", extra_metadata={"x": "x" * MAX_ENTRY_BYTES}))
    assert registry.realms() == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left.*Make room"),
        (errno.EROFS, "Read-only.*HEROS_RUNTIME_DIR"),
        (errno.EACCES, "Permission denied.*HEROS_RUNTIME_DIR"),
        (errno.EMFILE, "Too many open files.*ulimit"),
    ],
)
def test_errors_of_the_system_come_in_words_and_leave_nothing(
    registry: host.Registry, directory: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    before = files_in(directory)

    def write(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(HEROSError, match=words):
            registry.add(entry_of(registry, "s"))
    assert files_in(directory) == before
    registry.add(entry_of(registry, "s"))


def test_directory_too_long_for_a_socket_is_refused(directory: Path, workers: Workers) -> None:
    with pytest.raises(HEROSError, match=r"bytes too long.*HEROS_RUNTIME_DIR"):
        host.Registry(directory / ("x" * 90), unique(), workers)
    longest = 107 - len(str(directory)) - len("//nodes/a.sock")
    registry = host.Registry(directory / ("x" * longest), "a", workers)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(registry.socket_path))
    registry.close()


def test_one_node_id_is_one_node(
    registry: host.Registry, directory: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heros.registry.nodes.LOCK_SECONDS", 0.01)
    with pytest.raises(HEROSError, match="is the node"):
        host.Registry(directory, registry.node_id, workers)


def test_lock_file_removed_between_its_making_and_its_locking_is_made_again(
    open_registry: Callable[..., host.Registry], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, removed, take = open_registry(), [], locks.take

    def remove_and_take(fd: int, seconds: float) -> bool:
        if not removed:
            removed.extend(other._nodes.dead())
            for node_id in removed:
                other._nodes.remove_if_dead(node_id)
        return take(fd, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(locks, "take", remove_and_take)
        one = open_registry()
    assert removed == [one.node_id]
    entry = entry_of(one, "s")
    one.add(entry)
    assert other.find("lab", "s") == [entry]


def test_deleted_runtime_directory_is_an_error_in_words(registry: host.Registry, directory: Path) -> None:
    for folder in ("nodes", "realms"):
        for path in sorted((directory / folder).iterdir()):
            path.unlink()
        (directory / folder).rmdir()
    with pytest.raises(HEROSError, match="has been deleted"):
        registry.add(entry_of(registry, "s"))
    (directory / "nodes").mkdir()
    (directory / "realms").mkdir()


def test_without_inotify_it_polls(
    open_registry: Callable[..., host.Registry], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("heros.registry.watch.POLL_SECONDS", 0.01)
    monkeypatch.setattr("heros.registry.watch.Inotify", refuse)
    caplog.set_level(logging.INFO, "heros")
    one, other = open_registry(), open_registry()
    told = Told()
    stop = other.watch("lab", told.added, told.removed)
    entries = [entry_of(one, f"s{number % 3}") for number in range(10)]
    for entry in entries:
        one.add(entry)
    wait_until(lambda: len(told.present) == 10)
    one.remove(entries[0])
    wait_until(lambda: len(told.present) == 9)
    one.close()
    wait_until(lambda: not told.present)
    assert "inotify" in caplog.text
    stop()


def test_watching_goes_on_after_a_time_without_descriptors(
    open_registry: Callable[..., host.Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heros.registry.watch.POLL_SECONDS", 0.01)
    one, other = open_registry(), open_registry()
    told = Told()
    other.watch("lab", told.added, told.removed)
    failures: list[str] = []

    def fail(*arguments: object) -> list[Entry]:
        failures.append("")
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(other._entries, "live", fail)
        one.add(entry_of(one, "s"))
        wait_until(lambda: failures)
        assert not told.log
    wait_until(lambda: len(told.present) == 1)


def test_idle_watch_does_nothing(open_registry: Callable[..., host.Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    """No timer runs and no task is queued while nothing happens: what an idle process pays is nothing."""
    one, other = open_registry(), open_registry()
    told = Told()
    other.watch("lab", told.added, told.removed)
    one.add(entry_of(one, "s"))
    wait_until(lambda: len(told.present) == 1)
    watcher = other._watcher
    wait_until(lambda: not len(watcher._strand))
    assert watcher._timer is None
    assert [guard.timer for guard in watcher._guards.values()] == [None]
    assert [guard.pidfd >= 0 for guard in watcher._guards.values()] == [True]
