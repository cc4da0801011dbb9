"""TLS with client certificates and Zenoh's access control, for ``heros secure``. ``directory.Setup`` is the way in.

Only ``certificates`` imports the package ``cryptography``, which is an extra.
"""

from __future__ import annotations
