"""The demo's processes: whatever happens to one, it is told, with what the process wrote, and nothing stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from heros.demo.children import Child, ChildFailed
from tests.harness import wait_until

ROOT = Path(__file__).parents[2]
ECHO = """
import sys
from heros.demo.children import hear, say
say("ready")
while (command := hear()) is not None:
    match command:
        case ["add", a, b]:
            say("add", sum=a + b)
        case ["complain", text, code]:
            print(text, file=sys.stderr)
            sys.exit(code)
        case ["mumble"]:
            print("this is no JSON", flush=True)
"""


@pytest.fixture
def module(tmp_path):
    """A module named ``echo_child`` that children can run, and their environment."""
    (tmp_path / "echo_child.py").write_text(ECHO)
    return tmp_path, os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}


def start(module):
    directory, environment = module
    return Child("echo", ["echo_child"], environment, directory)


def talk(child, command, *arguments, timeout=20):
    with child:
        child.expect("ready", 20)
        return child.ask(command, *arguments, timeout=timeout)


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # where nobody collects orphans
    except psutil.NoSuchProcess:
        return True


def test_conversation(module):
    child = start(module)
    assert talk(child, "add", 1, 2) == {"sum": 3}
    assert gone(child.pid)


def test_a_child_that_dies_is_reported_with_its_output(module):
    child = start(module)
    with pytest.raises(ChildFailed, match=r"'echo'.*died(.|\n)*exit code is 7(.|\n)*out of film"):
        talk(child, "complain", "out of film", 7)
    assert gone(child.pid)


def test_a_child_that_dies_at_once(module, tmp_path):
    child = Child("nobody", ["no_such_module_at_all"], module[1], tmp_path)
    with pytest.raises(ChildFailed, match="No module named"):
        talk(child, "add", 1, 2)


def test_a_child_that_says_something_else(module):
    with pytest.raises(ChildFailed, match=r'this is no JSON.*instead of "mumble"'):
        talk(start(module), "mumble")


def test_a_child_that_says_nothing(module):
    child = start(module)
    with pytest.raises(ChildFailed, match='did not say "sleep"'):
        talk(child, "sleep", timeout=0.2)
    assert gone(child.pid)


def test_a_child_that_fails_when_it_ends(module):
    directory, environment = module
    (directory / "late_child.py").write_text(ECHO + "sys.exit('the lid is stuck')")
    child = Child("late", ["late_child"], environment, directory)
    with pytest.raises(ChildFailed, match=r"failed when it ended(.|\n)*the lid is stuck"):
        talk(child, "add", 1, 2)


def test_an_interrupt_ends_the_child(module):
    child = start(module)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), child:
        child.expect("ready", 20, tick=interrupt)
    assert gone(child.pid)


def test_a_child_ends_with_its_parent(module):
    """Killed, the parent can end nobody; its child's standard input ends all the same."""
    directory, environment = module
    parent = """
import os, sys
from pathlib import Path
from heros.demo.children import Child
child = Child("echo", ["echo_child"], os.environ, Path(sys.argv[1]))
child.expect("ready", 20)
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    result = subprocess.run(
        [sys.executable, "-c", parent, str(directory)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == -9, result.stderr
    child = int(result.stdout)
    wait_until(lambda: gone(child))
