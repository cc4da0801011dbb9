"""Protocol 1.0: what existing HEROs speak, CBOR on Zenoh. Everything that knows of it is in this package.

It translates between that wire and ours: nothing above ``heros.net`` has heard of it, and where no such peer exists,
it costs nothing. ``cbor2`` comes with ``pip install "heros[legacy]"``; without it there is protocol 2 alone.
"""
