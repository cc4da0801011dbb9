"""Helpers: serialising in this process, names in key expressions, addresses."""

from __future__ import annotations

import sys

import numpy as np
from saying import finish, outcome, say

from heros.helper import generate_multicast_address, get_logger, log, object_name_from_keyexpr
from heros.serdes import deserialize, serialize
from heros.zenoh import ZenohSessionManager, session_manager

REALM = sys.argv[1]

for value in (None, 1, "a", [1, (2, 3)], {"a": {1, 2}}, 2**70, 1.5, b"ab"):
    outcome(f"serdes {value!r}", lambda value=value: deserialize(serialize(value)))
say("serdes type", type(serialize(1)))
say("serdes array", deserialize(serialize(np.arange(3))).tolist())
say("address", [generate_multicast_address(realm) for realm in ("heros", "lab", "ünicode", "")])
say("name in key", object_name_from_keyexpr("@object/heros/camera/frames", "@object", "heros"))
say("name in key of endpoint", object_name_from_keyexpr("@object/heros/camera/_health", "@object", "heros", "_health"))
say("no name in key", object_name_from_keyexpr("other/heros/camera/_health", "@object", "heros", "_health"))
say("loggers", [log.name, get_logger().name, get_logger("mine").name, log is get_logger()])
say("manager", isinstance(session_manager, ZenohSessionManager))
user = object()
session = session_manager.request_session(user, REALM)
say("session", type(session).__name__)
say("same session", str(session_manager.request_session(user, REALM).zid()) == str(session.zid()))
say("zid in tags", True)
outcome("release", lambda: session_manager.release_session(user))
outcome("release unknown", lambda: session_manager.release_session(object()))
outcome("close", lambda: session_manager.force_close())
say("closed", session.is_closed())

finish()
