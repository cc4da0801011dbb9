"""What two nodes tell each other of themselves first: the text of HELLO and WELCOME, a JSON object in UTF-8.

========  ======  ===============================================================================================
field     type    meaning
========  ======  ===============================================================================================
protocol  int     ``wire.PROTOCOL`` of the sender; a server refuses another one than its own
pid       int     of the sender's process, for messages
host      string  name of the sender's computer, for messages
========  ======  ===============================================================================================

Other fields are ignored. Who the sender is, says the key that it sends to (``keys``).
"""

from __future__ import annotations

import json
from typing import NamedTuple

from heros import wire
from heros.exceptions import DecodeError
from heros.transport import Peer

__all__ = ["Greeting"]


class Greeting(NamedTuple):
    protocol: int
    pid: int
    host: str

    @classmethod
    def of(cls, peer: Peer) -> Greeting:
        return cls(wire.PROTOCOL, peer.pid, peer.host)

    def to_json(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Greeting:
        """Raises ``DecodeError``."""
        try:
            fields = json.loads(data)
            protocol, pid, host = fields["protocol"], fields["pid"], fields["host"]
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise DecodeError(f"a greeting that makes no sense: {error!r}") from None
        if not (isinstance(protocol, int) and isinstance(pid, int) and isinstance(host, str)):
            raise DecodeError("a greeting with values of wrong types")
        return cls(protocol, pid, host)
