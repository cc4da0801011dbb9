"""What a HERO offers to others, as data: the descriptions of its methods, attributes and events.

A HERO is described by the list of its members, as maps of protocol 1.0 with a few keys of our own. What has a default
may be missing; keys that are not in this table are ignored:

==========  ===============  ====================================  ===================================================
of          key              value                                 meaning
==========  ===============  ====================================  ===================================================
any member  ``name``         text                                  its name
any member  ``flavor``       ``method``, ``attribute``, ``event``  what it is
any member  ``doc``          text; default: empty                  its docstring (ours)
attribute   ``type``         text; default: ``undefined``          its annotation
attribute   ``access``       ``r``, ``rw``; default: ``rw``        whether it can be written
event       ``reliable``     bool; default: false                  whether it waits for slow subscribers (ours)
event       ``keep``         int; default: 0                       values kept for later subscribers (ours)
method      ``parameters``   list of maps                          its parameters, in order
method      ``return_type``  text; default: ``None``               its annotation
parameter   ``name``         text                                  its name
parameter   ``type``         text; default: ``undefined``          its annotation
parameter   ``default``      any; default: ``undefined``           its default; ``undefined``: it has none
parameter   ``kind``         int                                   0: positional only, 1: positional or keyword,
                                                                   2: ``*args``, 3: keyword only, 4: ``**kwargs``
parameter   ``opaque``       bool; default: false                  the default is a text that shows it (ours)
==========  ===============  ====================================  ===================================================

What comes in is untrusted: whatever the map, ``from_dict`` returns a capability or raises ``DecodeError``. How a class
is described is in ``introspection``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from heros.exceptions import DecodeError
from heros.limits import MAX_NAME_LENGTH

__all__ = [
    "MAX_TEXT",
    "POSITIONAL",
    "UNDEFINED",
    "AttributeCapability",
    "Capability",
    "EventCapability",
    "MethodCapability",
    "Opaque",
    "Parameter",
    "from_list",
    "usable_name",
]

UNDEFINED = "undefined"
"""Protocol 1.0 for: no default, no annotation."""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
"""The kinds of parameters of which one is filled in when a method is bound."""

MAX_TEXT = 64 * 1024
"""Characters of one docstring or annotation; more would be read by nobody."""

_MAX_MEMBERS = 10_000
_MAX_PARAMETERS = 255
"""What is taken from others: members of one HERO, parameters of one method."""

_RESERVED = frozenset(
    {
        "_capabilities",
        "_destroy_hero",
        "_get_capabilities",
        "_hero_extra_metadata",
        "_hero_implements",
        "_hero_tags",
        "_name",
        "_realm",
        "_session_manager",
    }
)
"""What a HERO and its proxy have of their own."""


def usable_name(name: str, reserved: Collection[str] = _RESERVED) -> bool:
    """Whether a member of this name may appear on a proxy: an identifier that Python or heros does not use itself."""
    return name.isidentifier() and not name.startswith("__") and name not in reserved and len(name) <= MAX_NAME_LENGTH


# -- what is offered ------------------------------------------------------------------------------------------


class Opaque:
    """The default of a parameter that cannot be sent: it only shows what the default is."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method. ``type`` is a text; ``kind`` is the integer of ``inspect.Parameter.kind``."""

    name: str
    type: str = UNDEFINED
    default: Any = UNDEFINED
    kind: int = int(inspect.Parameter.POSITIONAL_OR_KEYWORD)

    def has_default(self) -> bool:
        return not _is_undefined(self.default)

    def to_dict(self) -> dict[str, Any]:
        fields = {"name": self.name, "type": self.type, "default": self.default, "kind": self.kind}
        if isinstance(self.default, Opaque):
            fields.update(default=self.default.text, opaque=True)
        return fields

    @staticmethod
    def from_dict(fields: Any) -> Parameter:
        default = _field(fields, "default", object, UNDEFINED)
        if _field(fields, "opaque", bool, False):
            default = Opaque(_field(fields, "default", str))
        kind = _field(fields, "kind", int)
        if kind not in _KINDS:
            raise DecodeError(f"a parameter cannot be of kind {kind}")
        return Parameter(_field(fields, "name", str), _field(fields, "type", str, UNDEFINED), default, kind)


def _is_undefined(default: object) -> bool:
    return isinstance(default, str) and default == UNDEFINED  # an array would compare element by element


_KINDS = {int(kind): kind for kind in inspect._ParameterKind}


@dataclass(frozen=True)
class Capability:
    """One member of a HERO; the base of the three flavors."""

    name: str
    flavor: ClassVar[str] = "undefined"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "flavor": self.flavor}

    @staticmethod
    def from_dict(fields: Any) -> Capability:
        """The reverse of ``to_dict`` for any flavor.

        Raises:
            DecodeError: for anything that is no capability.
        """
        flavor = _field(fields, "flavor", str)
        maker = _FLAVORS.get(flavor)
        if maker is None:
            raise DecodeError(f"a capability cannot be of flavor {flavor!r}")
        return maker(fields)


@dataclass(frozen=True)
class AttributeCapability(Capability):
    """A value that can be read (access ``"r"``) or read and written (``"rw"``). ``type`` is a text."""

    type: str = UNDEFINED
    access: str = "rw"
    doc: str = ""
    flavor: ClassVar[str] = "attribute"

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "type": self.type, "access": self.access, "doc": self.doc}

    @staticmethod
    def from_dict(fields: Any) -> AttributeCapability:
        access = _field(fields, "access", str, "rw")
        if access not in ("r", "rw"):
            raise DecodeError(f"an attribute cannot have the access {access!r}")
        return AttributeCapability(
            _field(fields, "name", str), _field(fields, "type", str, UNDEFINED), access, _field(fields, "doc", str, "")
        )


@dataclass(frozen=True)
class EventCapability(Capability):
    """An event. ``keep``: how many values it keeps for subscribers that come later."""

    doc: str = ""
    reliable: bool = False
    keep: int = 0
    flavor: ClassVar[str] = "event"

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "doc": self.doc, "reliable": self.reliable, "keep": self.keep}

    @staticmethod
    def from_dict(fields: Any) -> EventCapability:
        keep = _field(fields, "keep", int, 0)
        if keep < 0:
            raise DecodeError(f"an event cannot keep {keep} values")
        return EventCapability(
            _field(fields, "name", str), _field(fields, "doc", str, ""), _field(fields, "reliable", bool, False), keep
        )


@dataclass(frozen=True)
class MethodCapability(Capability):
    """A method. ``return_type`` is a text; ``"None"`` also where nothing was annotated, as protocol 1.0 has it."""

    parameters: tuple[Parameter, ...] = ()
    return_type: str = "None"
    doc: str = ""
    flavor: ClassVar[str] = "method"

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "parameters": [parameter.to_dict() for parameter in self.parameters],
            "return_type": self.return_type,
            "doc": self.doc,
        }

    @staticmethod
    def from_dict(fields: Any) -> MethodCapability:
        parameters = _field(fields, "parameters", list)
        if len(parameters) > _MAX_PARAMETERS:
            raise DecodeError(f"a method cannot have {len(parameters)} parameters")
        method = MethodCapability(
            _field(fields, "name", str),
            tuple(map(Parameter.from_dict, parameters)),
            _field(fields, "return_type", str, "None"),
            _field(fields, "doc", str, ""),
        )
        try:
            method.signature()
        except (TypeError, ValueError) as error:
            raise DecodeError(f"no method can have these parameters: {error}") from None
        return method

    def signature(self) -> inspect.Signature:
        """The signature a proxy shows and checks arguments against.

        Protocol 1.0 cannot tell the default ``"undefined"`` from no default; behind a positional parameter that has
        one it can only be the former.
        """
        empty = inspect.Parameter.empty
        parameters = []
        defaults_began = False
        for parameter in self.parameters:
            positional = parameter.kind in POSITIONAL
            has_default = parameter.has_default() or (positional and defaults_began)
            defaults_began |= positional and has_default
            parameters.append(
                inspect.Parameter(
                    parameter.name,
                    _KINDS[parameter.kind],
                    default=parameter.default if has_default else empty,
                    annotation=empty if parameter.type == UNDEFINED else parameter.type,
                )
            )
        unknown = self.return_type in (UNDEFINED, "None")
        return inspect.Signature(parameters, return_annotation=empty if unknown else self.return_type)


_FLAVORS: dict[str, Callable[[Any], Capability]] = {
    kind.flavor: kind.from_dict for kind in (AttributeCapability, EventCapability, MethodCapability)
}


def from_list(members: Any) -> list[Capability]:
    """The capabilities of one HERO, as another process describes them, in its order.

    A name is not checked here, as leaving a member out would renumber the rest: see :func:`usable_name`.

    Raises:
        DecodeError: for anything that is not a list of capabilities with different names.
    """
    if not isinstance(members, list) or len(members) > _MAX_MEMBERS:
        raise DecodeError(f"the members of a HERO are a list of at most {_MAX_MEMBERS} maps")
    capabilities = list(map(Capability.from_dict, members))
    if len({capability.name for capability in capabilities}) != len(capabilities):
        raise DecodeError("a HERO cannot have two members of one name")
    return capabilities


def _field(fields: Any, key: str, kind: type, default: Any = None) -> Any:
    """``fields[key]``, checked; ``default`` where there is no such key, unless that is None."""
    if not isinstance(fields, Mapping):
        raise DecodeError(f"a capability is a map, not {type(fields).__name__}")
    value = fields.get(key, default)
    if key not in fields and default is None:
        raise DecodeError(f"a capability without {key!r}")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DecodeError(f"{key!r} of a capability must be {kind.__name__}, not {type(value).__name__}")
    limit = MAX_NAME_LENGTH if key == "name" else MAX_TEXT
    if isinstance(value, str) and len(value) > limit:
        raise DecodeError(f"{key!r} of a capability has {len(value)} characters, more than {limit}")
    return value
