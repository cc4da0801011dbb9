"""What a class offers, and how a proxy shows it."""

import functools
import inspect
import json
import sys
import typing
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from saying import finish, outcome, say

import heros
from heros import LocalHERO, RemoteHERO, event
from heros.event import reliable
from heros.inspect import force_remote, is_force_remote, is_hero_event, is_hero_method, is_local_only, local_only

REALM = sys.argv[1]


class Base:
    inherited: int = 1
    from_base: str

    def method_of_base(self, value: int = 4) -> int:
        return value


class Device(LocalHERO, Base):
    """A bit of everything that a class can have."""

    number: int = 3
    only_annotated: float
    plain = "text"
    listed: list = [1, 2]
    nothing = None
    handler: Callable[[int], int]
    old_handler: typing.Callable
    shared: ClassVar[int] = 5
    _private: int = 1
    _hero_tags = ["from class"]
    _hero_implements = ["lab.Device"]
    _hero_extra_metadata = {"room": "1"}

    def __init__(self, name: str, **kwargs: object) -> None:
        self.handler = lambda value: value + 1
        self.old_handler = lambda: 5
        self.only_in_the_instance = 6
        super().__init__(name, realm=REALM, **kwargs)

    def bare(self):
        return "bare"

    def typed(self, a: int, b: float = 0.5, *, c: str = "c") -> bool:
        return bool(a and b and c)

    def positional(self, a, /, b):
        return [a, b]

    def variadic(self, *args, **kwargs):
        return [args, kwargs]

    def defaults(self, none=None, text="", truth=True, number=-1, many=(1, 2), listed=[], mapped={}):
        return [none, text, truth, number, many, listed, mapped]

    def undefined(self, a="undefined"):
        return a

    def array(self, frame: np.ndarray, dtype: str = "f8") -> np.ndarray:
        return frame.astype(dtype)

    def texts(self, a: "int", b: "list[int]", c: "str | None" = None) -> "None": ...

    @staticmethod
    def static(a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int = 2) -> int:
        return a

    @property
    def read_only(self) -> int:
        return 9

    @property
    def gain(self) -> float:
        return getattr(self, "_gain", 1.0)

    @gain.setter
    def gain(self, value: float) -> None:
        if value < 0:
            raise ValueError("a gain is positive")
        self._gain = value

    @functools.wraps(bare)
    def wrapped(self, *args):
        return len(args)

    @event
    def happened(self, what: str = "x") -> str:
        return what

    @reliable
    @event
    def surely(self, what):
        return what

    @event
    @reliable
    def surely_too(self, what):
        return what

    @local_only
    def hidden(self): ...

    @force_remote
    def _shown(self) -> int:
        return 7

    def _not_shown(self): ...


class Given(LocalHERO):
    pass


def fields(capability) -> dict:
    told = {"flavor": capability.flavor}
    for name in ("type", "access", "return_type"):
        if hasattr(capability, name):
            told[name] = getattr(capability, name)
    if hasattr(capability, "parameters"):
        told["parameters"] = [[p.name, p.type, p.default, int(p.kind)] for p in capability.parameters]
    return told


say("version of the protocol", heros.__proto_version__)
device = Device("device", tags=["given"], implements=["given.Interface"], extra_metadata={"a": "b"})
remote = RemoteHERO("device", realm=REALM)
public = {c.name: c for c in remote._get_capabilities() if not c.name.startswith("_") or c.name == "_shown"}
say("names", sorted(public))
say("private names", sorted(c.name for c in remote._get_capabilities() if c.name.startswith("_")))
for name in sorted(public):
    say(f"capability {name}", fields(public[name]))
say(
    "capabilities of the owner",
    sorted(c.name for c in device.capabilities) == sorted(c.name for c in remote._get_capabilities()),
)
for name in sorted(name for name, c in public.items() if c.flavor == "method"):
    say(f"signature {name}", str(inspect.signature(getattr(remote, name))))
    say(f"__name__ {name}", getattr(remote, name).__name__)
say("type of proxy", type(remote).__name__)
say("is RemoteHERO", isinstance(remote, RemoteHERO))
say("equal", [remote == RemoteHERO("device", realm=REALM), remote == device, remote == 1, remote != remote])
say("hash equal", hash(remote) == hash(RemoteHERO("device", realm=REALM)))
say("in dir", [name in dir(remote) for name in ("number", "typed", "happened", "hidden", "_not_shown", "handler")])
say(
    "has",
    [hasattr(remote, name) for name in ("number", "typed", "happened", "hidden", "_private", "only_in_the_instance")],
)
say("tags", {tag for tag in remote._hero_tags if not tag.startswith("_zid")})
say("implements", remote._hero_implements)
say("extra metadata", {key: value for key, value in remote._hero_extra_metadata.items() if key != "pkg_versions"})
say("pkg_versions", sorted(json.loads(remote._hero_extra_metadata["pkg_versions"])))
say("types of metadata", [type(remote._hero_tags), type(remote._hero_implements), type(remote._hero_extra_metadata)])
for name in (
    "number",
    "only_annotated",
    "plain",
    "listed",
    "nothing",
    "shared",
    "read_only",
    "gain",
    "inherited",
    "from_base",
):
    outcome(f"read {name}", lambda name=name: getattr(remote, name))
remote.number = 8
remote.only_annotated = 2.5
remote.gain = 4.0
say("written", [device.number, device.only_annotated, device.gain, remote.number])
outcome("write read_only", lambda: setattr(remote, "read_only", 1))
outcome("write gain", lambda: setattr(remote, "gain", -1.0))
outcome("read unknown", lambda: remote.no_such_member)
outcome("call bare", lambda: remote.bare())
outcome("call typed", lambda: remote.typed(1, c="d"))
outcome("call positional", lambda: remote.positional(1, b=2))
outcome("call variadic", lambda: remote.variadic(1, 2, a=3))
outcome("call variadic without", lambda: remote.variadic())
outcome("call defaults", lambda: remote.defaults(text="t"))
outcome("call undefined", lambda: remote.undefined())
outcome("call static", lambda: remote.static(3))
outcome("call of_class", lambda: remote.of_class())
outcome("call handler", lambda: remote.handler(4))
outcome("call old_handler", lambda: remote.old_handler())
outcome("call wrapped", lambda: remote.wrapped(1, 2))
outcome("call _shown", lambda: remote._shown())
outcome("call inherited", lambda: remote.method_of_base())
outcome("call with too few", lambda: remote.typed())
outcome("call with too many", lambda: remote.typed(1, 2, 3))
outcome("call with unknown keyword", lambda: remote.typed(1, nothing=2))
outcome("call positional by keyword", lambda: remote.positional(a=1, b=2))
say(
    "marks",
    [
        is_hero_event(remote.happened),
        is_hero_event(device.happened),
        is_hero_method(remote.bare),
        is_hero_method(device.bare),
        is_local_only(Device.hidden),
        is_force_remote(Device._shown),
        is_hero_event(len),
    ],
)
say(
    "publishers",
    [
        str(p)
        for handler in (device.surely, device.surely_too)
        for p in (handler.publisher.reliability, handler.publisher.congestion_control)
    ],
)
outcome("nobody there", lambda: RemoteHERO("nobody", realm=REALM))

tags, implements, extra = ["mine"], ["my.Interface"], {"k": "v"}
given = Given("given", realm=REALM, tags=tags, implements=implements, extra_metadata=extra)
say("arguments afterwards", [tags[:1], implements, {key: value for key, value in extra.items() if key == "k"}])
say("arguments changed", [len(tags) > 1, len(extra) > 1])
given._destroy_hero()
outcome("after _destroy_hero", lambda: RemoteHERO("given", realm=REALM))
with Given("within", realm=REALM) as within:
    say("within", within is not None)
    outcome("RemoteHERO within", lambda: RemoteHERO("within", realm=REALM)._name)
outcome("RemoteHERO after with", lambda: RemoteHERO("within", realm=REALM))

finish()
