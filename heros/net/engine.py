"""The zenoh module that this process may use: imported when first needed, and loaded anew in a forked child.

zenoh runs on threads that belong to its library, not to a session. A forked child inherits the library as if they
existed, but they do not: a session that it opens is never connected. The only cure is a second library, with a state
of its own. The loader tells libraries apart by their file, so the child loads a copy of the file (in memory where the
system can do that), which takes 0.1 s. The first library stays where it is, untouched.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import threading
from types import ModuleType
from typing import Any, Final

from heros.exceptions import HEROSError

__all__ = ["immortalize", "load", "open_session", "reason"]

_EXTENSION: Final = "zenoh.zenoh"

_VARIABLE: Final = "ZENOH_RUNTIME"

THREADS: Final = "(rx: (worker_threads: 4), tx: (worker_threads: 4))"
"""Zenoh's threads that receive, and that send: by default two, and one. A connection that is closed may keep one of
each: a receiving one for the ten seconds for which the system tries to send what is left (SO_LINGER), a sending one for
as long as somebody waits to send to it (see ``Bus.close``). When none is left, nobody else is heard or told anything,
and all others take this process for dead too."""

_lock = threading.Lock()
_owner = os.getpid()
"""The process for which the library that is loaded works."""


def load() -> Any:
    """The module ``zenoh``.

    Raises:
        HEROSError: this is a forked child, and the library cannot be loaded a second time.
    """
    global _owner
    with _lock:
        if _owner != os.getpid():
            if _EXTENSION in sys.modules:
                try:
                    _load_again()
                except (ImportError, OSError) as error:
                    raise HEROSError(
                        f"zenoh cannot be loaded again in a forked process: {error}. Start the process with "
                        'multiprocessing.get_context("spawn") instead.'
                    ) from None
            _owner = os.getpid()
        module = importlib.import_module("zenoh")
        if "RUST_LOG" in os.environ:  # why a connection is refused, zenoh says there only
            module.try_init_log_from_env()
        return module


def open_session(config: Any) -> Any:
    """A ``zenoh.Session``. Raises what ``zenoh.open`` does."""
    zenoh = load()
    # The library reads the variable when its first session is opened; there is no other way to tell it. What the user
    # has set stays, and what we have set is not left for the processes that this one starts.
    if os.environ.setdefault(_VARIABLE, THREADS) != THREADS:
        return zenoh.open(config)
    try:
        return zenoh.open(config)
    finally:
        os.environ.pop(_VARIABLE, None)


def reason(error: Exception) -> str:
    """What zenoh says of an error, without the places in its source, which tell a user nothing."""
    return re.sub(r" at /\S+\.rs:\d+\.", "", str(error)).strip()


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def immortalize(thing: object) -> None:
    """Keep ``thing`` for ever: not even the end of the interpreter frees it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _load_again() -> None:
    inherited = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "zenoh"}
    for module in inherited.values():
        immortalize(module)
    original = inherited[_EXTENSION].__file__
    if original is None:
        raise ImportError("its library has no file")
    if hasattr(os, "memfd_create"):
        copy = os.memfd_create("heros-zenoh", os.MFD_CLOEXEC)
        try:
            with open(original, "rb") as source, open(copy, "wb", closefd=False) as target:
                shutil.copyfileobj(source, target, 1 << 20)
            _load_extension(f"/proc/{os.getpid()}/fd/{copy}")  # the loader also goes by the path
        finally:
            os.close(copy)
    else:
        with tempfile.TemporaryDirectory() as directory:
            _load_extension(shutil.copy(original, directory))


def _load_extension(path: str) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(_EXTENSION, path)
    spec = importlib.util.spec_from_file_location(_EXTENSION, path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_EXTENSION] = module
    loader.exec_module(module)
    return module
