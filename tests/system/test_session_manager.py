"""``heros.zenoh``: real sessions, one a realm, closed on demand. In a process of its own, on loopback only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import pytest

CONFIG = {"mode": "peer", "scouting": {"multicast": {"enabled": False}}, "listen": {"endpoints": ["tcp/127.0.0.1:0"]}}

SHARED = """
import queue, sys, zenoh
from heros.zenoh import ZenohSessionManager, session_manager

realm, user = sys.argv[1], object()
session = session_manager.request_session(user, realm)
assert isinstance(session, zenoh.Session)
assert session_manager.request_session(user, realm).zid() == session.zid()
assert ZenohSessionManager().request_session(user, realm).zid() == session.zid()
assert session_manager.request_session(user, realm + "-2").zid() != session.zid()

heard = queue.SimpleQueue()
subscriber = session.declare_subscriber("test/" + realm, lambda sample: heard.put(sample.payload.to_bytes()))
session.put("test/" + realm, b"hello")
assert heard.get(timeout=20) == b"hello"
subscriber.undeclare()

session_manager.release_session(user)
session_manager.release_session(user)
assert not session.is_closed()
session_manager.force_close()
assert session.is_closed()
again = session_manager.request_session(user, realm)
assert not again.is_closed() and again.zid() != session.zid()
print("passed")
"""

CONFIGURED = """
import sys
from heros.zenoh import ZenohSessionManager, session_manager

session_manager.update_config({"listen/endpoints": ["tcp/127.0.0.1:0"]})
ZenohSessionManager({"id": "abcdef"})
assert str(session_manager.request_session(object(), sys.argv[1]).zid()) == "abcdef"
print("passed")
"""

REFUSED = """
import sys
from heros.exceptions import HEROSError
from heros.zenoh import session_manager

if "off" in sys.argv:
    expected = "HEROS_NET is off"
else:
    session_manager.update_config({"no/such/key": 1})
    expected = "no/such/key"
try:
    session_manager.request_session(object(), sys.argv[1])
except HEROSError as error:
    assert expected in str(error), error
    print("passed")
"""

ANNOUNCED = """
import sys
from heros import node
from heros.local import LocalHERO
from heros.zenoh import session_manager

realm = sys.argv[1]
with LocalHERO("lamp", realm=realm):
    session_manager.request_session(object(), realm)
    assert [entry.name for entry in node.current().network(realm).find("lamp", 10)] == ["lamp"]
    session_manager.force_close()
    assert [entry.name for entry in node.current().network(realm).find("lamp", 10)] == ["lamp"]
print("passed")
"""


@pytest.mark.parametrize(
    ("program", "net"), [(SHARED, "on"), (CONFIGURED, "on"), (REFUSED, "on"), (REFUSED, "off"), (ANNOUNCED, "on")]
)
def test_session_manager(runtime_directory, program, net):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEROS_")}
    environment |= {
        "HEROS_NET": net,
        "HEROS_RUNTIME_DIR": str(runtime_directory),
        "HEROS_ZENOH_CONFIG": json.dumps(CONFIG),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    result = subprocess.run(
        [sys.executable, "-c", program, f"test-{uuid.uuid4().hex[:8]}", net],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout.strip()) == (0, "passed"), result.stderr
