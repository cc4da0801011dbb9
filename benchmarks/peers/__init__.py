"""How this package compares with its peers: one case a peer, each server and each client in a process of its own.

``run.py`` is the command, ``roster.py`` the list of peers, ``cases.py`` the list of cases, ``driver.py`` what starts a
peer's two processes and asks them for a case. A file ``*_peer.py`` is such a process: a script, never imported, that
knows ``peer.py`` and one library, as one of the peers lives in an environment of its own.
"""

from __future__ import annotations
