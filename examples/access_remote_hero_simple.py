"""Use an object that lives in another process. Start share_local_hero_simple.py first.

Nothing about the shutter is imported here: the proxy learns from its owner what it can do.
"""

from heros import RemoteHERO

shutter = RemoteHERO("shutter")

print("The shutter is", shutter.state)
print("The shutter", shutter.open(seconds=0.1))

shutter.state = "locked"
print("The shutter is", shutter.state)
