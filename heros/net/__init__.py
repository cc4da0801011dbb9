"""HEROs on other machines: discovery and calls over Zenoh. ``session.Network`` is the way in.

Importing this package does not import zenoh; the background thread of the first :class:`Network` does.
"""
