"""Every example runs as a user would run it: in processes of its own, ended by itself or by Ctrl-C."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT, Child, wait_until

EXAMPLES = ROOT / "examples"

SECONDS = 60.0
"""Patience with one example on a loaded machine; nothing here depends on how fast it is."""

ALONE = {
    "attributes_and_methods.py": [
        r"move\(target: '?float'?, speed: '?float'? = 1\.0\) -> '?float'?",
        r"position 3\.0 of \[0\.0, 25\.0\]",
        r"moved to 12\.5",
        r"moved to 25\.0",
        r"position 7\.0",
        r"diagnosis: all good",
        r"reset_controller exposed\? False",
    ],
    "event_local_to_local.py": [
        r"counted 3",
        r"counted 5",
        r"nobody listens, the method still works: 8",
    ],
    "event_local_to_remote.py": [r"the logbook has \[3, 5, 8\]"],
    "event_remote_to_local.py": [r"heard five clicks", r"one after the other: True"],
    "event_remote_to_remote.py": [
        r"connected: \['\S+'\]",
        r"the logbook has \[3, 5, 8\]",
        r"disconnected: True",
    ],
    "multiprocessing_spawn.py": [r"exit codes \[0, 0\]", r"the sum of 0 to 99 is 4950"],
    "nested_heros.py": [
        r"cooling laser at 80 mW",
        r"the weakest has 795 nm",
        r"the laser at 780 nm is off",
        r"cooling laser at 0\.0 mW",
    ],
    "remote_exceptions.py": [
        r"refused: 300 A would melt the coil",
        r"ValueError raised in heros/coil/set_current",
        r"line of the driver: True",
    ],
    "secure_realm.py": [
        r"the camera is there",
        r"with a certificate: the viewer got a picture",
        r"without: the viewer got nothing, and sees \[\]",
    ],
    "unserializable_object.py": [
        r"what arrived is an UnserializableRemoteObject",
        r"sent 1 command",
        r"sent 2 commands",
    ],
}
"""Examples that end by themselves: the whole of what they print."""

PAIRS = {
    ("share_local_hero_simple.py", "access_remote_hero_simple.py"): [
        r"The shutter is closed",
        r"The shutter was open for 0\.1 s",
        r"The shutter is locked",
    ],
    ("camera.py", "camera_viewer.py"): [
        r"connected by shm",
        r"images of \(512, 512\) uint16 writeable: False",
        r"exposure is now 0\.02 s",
        r"ten images, in order: True",
    ],
    ("datasource.py", "datasource_observer.py"): 3
    * [r"thermometer\.oven: 1\.[012]\d\d V = (49|5\d|6\d|70)\.\d degC, normal"],
}
"""A server that runs until Ctrl-C, the client that is started beside it, and all that the client prints."""


@pytest.fixture(autouse=True)
def _ctrl_c_works() -> Iterator[None]:
    """In a background job SIGINT is ignored, and the examples would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(program: str | Path) -> Child:
    """Start an example, or a line of code. A warning is an error there too."""
    return Child(program, env={"PYTHONWARNINGS": "error"})


def check(child: Child, patterns: list[str]) -> None:
    """It has ended well, and has printed these lines and nothing else."""
    assert child.wait(SECONDS) == 0, child.output
    wait_until(lambda: len(printed(child)) >= len(patterns), what=lambda: child.output)
    assert len(printed(child)) == len(patterns), child.output
    for line, pattern in zip(printed(child), patterns, strict=True):
        assert re.fullmatch(pattern, line), child.output
    assert child.errors == ""


def printed(child: Child) -> list[str]:
    lines = child.output.splitlines()
    return lines[1 : lines.index(f"--- errors of {child.pid}")]


def check_ended_by_ctrl_c(server: Child, there: str, gone: str) -> None:
    server.interrupt()
    check(server, [there, gone])


@pytest.mark.parametrize("name", ALONE)
def test_an_example_that_ends_by_itself(name: str) -> None:
    with run(EXAMPLES / name) as example:
        check(example, ALONE[name])


@pytest.mark.parametrize(("server_name", "client_name"), PAIRS, ids=lambda name: str(name).removesuffix(".py"))
def test_a_server_and_its_client(server_name: str, client_name: str) -> None:
    with run(EXAMPLES / server_name) as server:
        server.expect("The", SECONDS)
        with run(EXAMPLES / client_name) as client:
            check(client, PAIRS[server_name, client_name])
        check_ended_by_ctrl_c(server, r"The \w+ '\w+' is there\. Ctrl-C withdraws it\.", r"The \w+ '\w+' is gone\.")


def test_the_asyncio_server_does_its_own_work_while_it_is_called() -> None:
    with run(EXAMPLES / "asyncio_server.py") as server:
        server.expect("The", SECONDS)
        with run("from heros import RemoteHERO; print(RemoteHERO('oven').heat_to(60.0))") as client:
            check(client, [r"60(\.0)?"])
        check_ended_by_ctrl_c(server, r"The HERO 'oven' is there\. Ctrl-C withdraws it\.", r"The HERO 'oven' is gone\.")


def test_every_example_is_run_by_a_test() -> None:
    tested = {*ALONE, *(name for pair in PAIRS for name in pair), "asyncio_server.py"}
    assert tested == {path.name for path in EXAMPLES.glob("*.py")}


def test_the_programs_of_the_readme():
    server, client = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    with Child(f"print('READY', flush=True)\n{server}") as serving:
        serving.ready()
        with Child(client.replace('RemoteHERO("camera")', 'RemoteHERO("camera", wait=20)')) as calling:
            assert calling.wait(SECONDS) == 0
            assert "an image, exposed for 0.5 s" in calling.output
        serving.interrupt()
        assert serving.wait(SECONDS) == 0
        assert serving.errors == ""
