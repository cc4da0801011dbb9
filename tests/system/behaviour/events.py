"""Events: the four ways to connect a callback, and what is told of them."""

from __future__ import annotations

import sys

from saying import finish, outcome, say, until

from heros import EventObserver, LocalHERO, RemoteHERO, event
from heros.event import Callback, LocalEventHandler, RemoteEventHandler, reliable

REALM = sys.argv[1]


class Source(LocalHERO):
    @event
    def tick(self, value, factor=1):
        """What it says."""
        return value * factor

    @event
    def nothing(self):
        pass

    @reliable
    @event
    def surely(self, value):
        return value

    def fire(self, count: int) -> list:
        return [self.tick(number) for number in range(count)]


class Sink(LocalHERO):
    def __init__(self) -> None:
        self.taken = []
        super().__init__("sink", realm=REALM)

    def take(self, value) -> None:
        self.taken.append(value)


def told(callbacks: list) -> list:
    """What get_callbacks says, with names that do not depend on where the functions are."""
    keys = ("origin", "is_remote_hero", "context")
    return sorted(
        [[each["name"].split(" at ")[0].split(" 0x")[0], *(each[key] for key in keys)] for each in callbacks], key=str
    )


source, sink = Source("source", realm=REALM), Sink()
remote_source, remote_sink = RemoteHERO("source", realm=REALM), RemoteHERO("sink", realm=REALM)
got, also = [], []


def first(value):
    got.append(value)


def second(value):
    also.append(value)


say("classes", [isinstance(source.tick, LocalEventHandler), isinstance(remote_source.tick, RemoteEventHandler)])
say("name and doc", [source.tick.__name__, source.tick.__doc__, remote_source.tick.__name__])
say("returns", [source.tick(3), source.tick(3, factor=2), source.nothing()])

# local event, local callback
name = source.tick.connect(first)
say("local name", name.split(" at ")[0])
say("connected twice", source.tick.connect(first) == name)
say("origin", source.tick.connect(second, "me") != name)
say("local keys", sorted(source.tick.get_callbacks()[0]))
say("local callbacks", told(source.tick.get_callbacks()))
say("local func", source.tick.get_callbacks()[0]["func"] is first)
say("local is_callback", [source.tick.is_callback(first), source.tick.is_callback(len)])
source.tick(1)
say("local got", [got, also])
say("local disconnect", [source.tick.disconnect(first), source.tick.disconnect(first), source.tick.disconnect(len)])
source.tick.disconnect(second)
say("none left", source.tick.get_callbacks())
got.clear()

# local event, method of a RemoteHERO
say("to remote name", source.tick.connect(remote_sink.take, origin="somebody"))
say("to remote callbacks", told(source.tick.get_callbacks()))
outcome("to remote is_callback", lambda: source.tick.is_callback(RemoteHERO("sink", realm=REALM).take))
source.tick(2)
say("to remote got", until(lambda: sink.taken == [2]))
say("to remote disconnect", source.tick.disconnect(RemoteHERO("sink", realm=REALM).take))
say("to remote none left", source.tick.get_callbacks())
sink.taken.clear()

# remote event, local callback
say("remote name", remote_source.tick.connect(first).split(" at ")[0])
say("remote callbacks", told(remote_source.tick.get_callbacks()))
say("remote is_callback", [remote_source.tick.is_callback(first), remote_source.tick.is_callback(second)])
say("remote fire", remote_source.fire(3))
say("remote got", until(lambda: got == [0, 1, 2]))
say("remote disconnect", [remote_source.tick.disconnect(first), remote_source.tick.disconnect(first)])
say("remote none left", remote_source.tick.get_callbacks())

# remote event, method of a RemoteHERO
say("remote to remote name", remote_source.tick.connect(remote_sink.take))
say("remote to remote callbacks", told(remote_source.tick.get_callbacks()))
say("remote to remote at the owner", told(source.tick.get_callbacks()))
func = remote_source.tick.get_callbacks()[0]["func"]
say("remote to remote func", [type(func.__self__).__name__, func.__name__])
source.tick(9)
say("remote to remote got", until(lambda: sink.taken == [9]))
outcome("remote to remote is_callback", lambda: remote_source.tick.is_callback(remote_sink.take))
say("remote to remote disconnect", [remote_source.tick.disconnect(remote_sink.take), source.tick.get_callbacks()])


# a callback that raises
def raises(value):
    raise RuntimeError("on purpose")


got.clear()
remote_source.tick.connect(raises)
remote_source.tick.connect(first)
source.tick(5)
say("after one that raises", until(lambda: got == [5], 2.0))
source.tick(6)
say("and again", until(lambda: 6 in got, 2.0))

# observers
seen = []
observer = EventObserver("*", "tick", realm=REALM)


def see(name, value):
    seen.append((name, value))


uid = observer.register_callback(see)
say("uid", type(uid))
say("registered twice", observer.register_callback(see))


def arrives(number=[0]):
    number[0] += 1
    source.tick(number[0])
    return until(lambda: seen, 0.05)


say("observer got", until(arrives))
say("observer name", seen[0][0])
say("observer remove", [observer.remove_callback(see), observer.remove_callback(see)])
uid = observer.register_callback(see)
say("observer remove by uid", observer.remove_callback_uid(uid))
outcome("observer remove unknown uid", lambda: observer.remove_callback_uid("unknown"))
callback = Callback(first, "origin")
say("Callback", [callback.func is first, callback.origin, callback.is_remote_hero, callback == Callback(first)])

finish()
