"""HEROs that come and go, nested HEROs, and datasources from their own process and from another one's view."""

from __future__ import annotations

import asyncio
import sys
import threading

from saying import finish, outcome, say, until

from heros import (
    DatasourceObserver,
    HEROObserver,
    HEROPeer,
    LocalDatasourceHERO,
    LocalHERO,
    PolledLocalDatasourceHERO,
    RemoteHERO,
)

REALM = sys.argv[1]


class Part(LocalHERO):
    def name(self) -> str:
        return self._name


class Whole(LocalHERO):
    part: Part

    def __init__(self, part: Part) -> None:
        self.part = part
        super().__init__("whole", realm=REALM)

    def give(self):
        return self.part

    def take(self, hero):
        return [type(hero).__name__, hero.name()]

    def call(self, method):
        return method()

    def method(self):
        return RemoteHERO("part", realm=REALM).name


peer = HEROPeer(realm=REALM)
say("discover", peer._discover())
observer = HEROObserver(realm=REALM)
say("known at first", observer.known_objects)
came, went = [], []
observer.register_object_added_callback(came.append)
observer.register_object_removed_callback(went.append)
part = Part("part", realm=REALM, tags=["t"], implements=["i"], extra_metadata={"a": "b"})
say("came", until(lambda: came == ["part"]))
descriptor = observer.known_objects["part"]
say("keys of a descriptor", sorted(descriptor))
say("descriptor", [descriptor[key] for key in ("proto_version", "name", "class", "implements")])
say("types of a descriptor", [type(descriptor[key]) for key in ("implements", "tags", "extra_metadata")])
say("tags of a descriptor", {tag for tag in descriptor["tags"] if not tag.startswith("_zid")})
say("object info", sorted(peer._get_object_info("part")["part"]))
say("no object info", peer._get_object_info("nobody"))
say("get_object", observer.get_object("part").name())
outcome("get unknown object", lambda: observer.get_object("unknown"))

whole = Whole(part)
remote = RemoteHERO("whole", realm=REALM)
say("nested attribute", [type(remote.part).__name__, remote.part.name()])
say("nested result", remote.give() == RemoteHERO("part", realm=REALM))
say("nested argument", remote.take(RemoteHERO("part", realm=REALM)))
say("own HERO as argument", remote.take(part))
say("method as argument", remote.call(RemoteHERO("part", realm=REALM).name))
say("method as result", remote.method()())
part._destroy_hero()
until(lambda: went == ["part"], 1.0)  # with the original not always, in one process

# datasources
values = []
datasources = DatasourceObserver("*", realm=REALM)
datasources.register_callback(lambda name, data: values.append((name, data)))


class Sensor(LocalDatasourceHERO):
    _observables = {"t": {"conversion": "x*2", "unit": "K", "boundaries": [[0, 1], [1, 5]]}}


class Polled(PolledLocalDatasourceHERO):
    first: float = 1.5
    asked = 0

    def many(self):
        return [1.0, 2.0]

    def named(self):
        return {"a": 3.0}


def shown(name, data):
    return [name, [[v.id, v.raw_value, v.raw_unit, v.value, v.unit, v.inbound] for v in data]]


sensor = Sensor("sensor", realm=REALM)


def delivers(data):
    def again():
        sensor.observable_data(data)
        return until(lambda: values, 0.05)

    values.clear()
    until(again)
    return [type(values[0][1]).__name__, shown(*values[0])]


say("one value", delivers({"t": (1.5, "V")}))
say("a float", delivers(2.5))
say("unknown to the observables", delivers({"other": 1.0}))
say("returns", [[v.id, v.value] for v in sensor.observable_data({"t": 0.25})])
sensor._destroy_hero()
until(lambda: False, 0.2)
values.clear()
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
observables = {
    "first": {"raw_unit": "V", "unit": "K", "conversion": "x + 1"},
    "item": {"target": "many", "index": 1},
    "key": {"target": "named", "index": "a", "boundaries": [[0, 1]]},
    "gone": {"target": "named", "index": "b"},
}
polled = Polled("polled", realm=REALM, loop=loop, interval=0.05, observables=observables)
say("polled", until(lambda: values))
say("polled values", shown(*values[0]))
count = len(values)
say("polled again", until(lambda: len(values) > count + 2))
say("interval", polled.datasource_interval)
remote_polled = RemoteHERO("polled", realm=REALM)
say("members of a datasource", sorted(c.name for c in remote_polled._get_capabilities() if not c.name.startswith("_")))
polled._destroy_hero()

finish()
