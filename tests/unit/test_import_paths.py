"""Every name that existing programs import, from every path from which they do; and importing does nothing else."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

PATHS = {
    "heros": {
        "DatasourceObserver",
        "DatasourceReturnSet",
        "DatasourceReturnValue",
        "EventObserver",
        "HEROObserver",
        "HEROPeer",
        "LocalDatasourceHERO",
        "LocalHERO",
        "PolledLocalDatasourceHERO",
        "RemoteHERO",
        "__proto_version__",
        "__version__",
        "event",
    },
    "heros.heros": {"HERO", "EventObserver", "HEROObserver", "HEROPeer", "LocalHERO", "RemoteHERO"},
    "heros.event": {"Callback", "LocalEventHandler", "RemoteEventHandler", "event", "reliable"},
    "heros.inspect": {
        "force_remote",
        "is_force_remote",
        "is_hero_event",
        "is_hero_method",
        "is_local_only",
        "local_only",
        "mark_force_remote",
        "mark_hero_event",
        "mark_hero_method",
        "mark_local_only",
    },
    "heros.helper": {"generate_multicast_address", "get_logger", "log", "object_name_from_keyexpr"},
    "heros.zenoh": {"ZenohSessionManager", "session_manager"},
    "heros.serdes": {"deserialize", "serialize"},
    "heros.capabilities": {"AttributeCapability", "Capability", "EventCapability", "MethodCapability"},
    "heros.exceptions": {
        "CallTimeout",
        "DecodeError",
        "EncodeError",
        "HEROSError",
        "HEROUnavailable",
        "NameInUse",
        "PeerLost",
        "PoolExhausted",
        "RemoteHEROError",
        "RemoteTransportError",
    },
    "heros.datasource": set(),
    "heros.datasource.datasource": {"DatasourceObserver", "LocalDatasourceHERO", "PolledLocalDatasourceHERO"},
    "heros.datasource.types": {"DatasourceReturnSet", "DatasourceReturnValue"},
    "heros.datasource.observables": {"Observable", "ObservableProcessor"},
}

EXACT = ("heros.heros", "heros.helper", "heros.zenoh")
"""Modules that exist only for these imports: they offer no other name."""


@pytest.mark.parametrize("path", PATHS)
def test_every_name_is_there(path):
    module = importlib.import_module(path)
    missing = {name for name in PATHS[path] if not hasattr(module, name)}
    assert not missing


@pytest.mark.parametrize("path", [path for path in PATHS if path != "heros.datasource"])
def test_all_lists_every_name(path):
    module = importlib.import_module(path)
    public = {name for name in PATHS[path] if not name.startswith("__")}
    assert public <= set(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)


@pytest.mark.parametrize("path", EXACT)
def test_no_other_name(path):
    assert set(importlib.import_module(path).__all__) == PATHS[path]


def test_one_class_whatever_the_path():
    import heros
    import heros.heros as classes
    from heros.datasource.datasource import LocalDatasourceHERO
    from heros.event import event

    for name in ("EventObserver", "HEROObserver", "HEROPeer", "LocalHERO", "RemoteHERO"):
        assert getattr(heros, name) is getattr(classes, name)
    assert heros.LocalDatasourceHERO is LocalDatasourceHERO
    assert heros.event is event
    assert heros.__proto_version__ == 1.0


def test_both_kinds_of_hero_are_heros():
    from heros.heros import HERO, HEROObserver, LocalHERO, RemoteHERO

    assert issubclass(LocalHERO, HERO)
    assert issubclass(RemoteHERO, HERO)
    assert not issubclass(HEROObserver, HERO)


OBSERVE = """
import gc, importlib, json, logging, os, sys, threading, multiprocessing
before = dict(os.environ), threading.active_count(), sorted(os.listdir("/proc/self/fd")) if os.name == "posix" else []
for path in sys.argv[1:]:
    importlib.import_module(path)
gc.collect()
after = dict(os.environ), threading.active_count(), sorted(os.listdir("/proc/self/fd")) if os.name == "posix" else []
print(json.dumps({
    "unchanged": before == after,
    "handlers": len(logging.getLogger().handlers) + len(logging.getLogger("heros").handlers),
    "levels": [logging.getLogger("heros").level, logging.getLogger().level],
    "logger": logging.getLoggerClass().__module__,
    "zenoh": "zenoh" in sys.modules,
}))
"""


def test_importing_does_nothing():
    """No thread, descriptor, environment variable, log handler, level or logger class; and zenoh is not imported."""
    result = subprocess.run([sys.executable, "-c", OBSERVE, *PATHS], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == {
        "unchanged": True,
        "handlers": 0,
        "levels": [0, 30],
        "logger": "logging",
        "zenoh": False,
    }
