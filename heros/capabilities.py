"""What a HERO offers to others: its methods, attributes and events, as data.

``collect`` looks at a class, never at an instance, and runs none of its code: a property is described without being
read. A member is looked up as Python would (the first class of the MRO that has it), annotations count as members,
and what is private, ``@local_only`` or part of the base class is left out. The order is that of the names, so that
both sides of a link can number the members.

``to_dict`` and ``from_dict`` speak the maps of protocol 1.0 with a few keys of our own, which others ignore:
``doc``; ``reliable`` and ``keep`` of an event; ``opaque`` of a parameter whose default is only a text to be shown.
What comes in is untrusted: whatever the map, ``from_dict`` returns a capability or raises ``DecodeError``.
"""

from __future__ import annotations

import ast
import inspect
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial, partialmethod, singledispatchmethod
from types import MethodType, UnionType
from typing import Any, ClassVar

from heros.exceptions import DecodeError
from heros.inspect import event_keep, is_force_remote, is_hero_event, is_local_only, is_reliable
from heros.limits import MAX_NAME_LENGTH

__all__ = [
    "UNDEFINED",
    "AttributeCapability",
    "Capability",
    "EventCapability",
    "MethodCapability",
    "Opaque",
    "Parameter",
    "collect",
    "from_list",
    "type_to_str",
    "usable_name",
]

UNDEFINED = "undefined"
"""Protocol 1.0 for: no default, no annotation."""

_MAX_MEMBERS = 10_000
_MAX_PARAMETERS = 255
_MAX_TEXT = 64 * 1024
"""What is taken from others: members of one HERO, parameters of one method, characters of one docstring."""

_SMALL_TEXT = 200
_SMALL_COLLECTION = 16
"""Largest str and list that travel as a parameter's default; a default is there to be read by people."""

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

    @staticmethod
    def from_signature_parameter(parameter: inspect.Parameter) -> Parameter:
        missing = parameter.default is inspect.Parameter.empty
        return Parameter(
            name=parameter.name,
            type=type_to_str(parameter.annotation),
            default=UNDEFINED if missing else _sendable(parameter.default),
            kind=int(parameter.kind),
        )

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
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


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

    @staticmethod
    def from_method(method: Callable[..., Any], name: str | None = None) -> MethodCapability:
        """Describe a callable as it is called: a bound method without its ``self``."""
        return _method(name or method.__name__, method, bound=False)

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
            positional = parameter.kind in _POSITIONAL
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

    to_signature = signature


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
    limit = MAX_NAME_LENGTH if key == "name" else _MAX_TEXT
    if isinstance(value, str) and len(value) > limit:
        raise DecodeError(f"{key!r} of a capability has {len(value)} characters, more than {limit}")
    return value


# -- looking at a class ---------------------------------------------------------------------------------------


def collect(cls: type, excluded: frozenset[str] = frozenset()) -> list[Capability]:
    """What instances of ``cls`` offer, in the order of the names.

    Args:
        cls: the class of a HERO.
        excluded: names that belong to the base class and are not offered, unless marked ``@force_remote``.
    """
    members = _class_values(cls)
    annotations = _class_annotations(cls)
    capabilities = []
    for name in sorted(members.keys() | annotations.keys()):
        value = members.get(name, _NO_VALUE)
        if _is_offered(name, value, excluded):
            capabilities.append(_describe(name, value, annotations.get(name)))
    return capabilities


_NO_VALUE: Any = object()


def _class_values(cls: type) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for base in _bases(cls):
        values.update(vars(base))
    return values


def _class_annotations(cls: type) -> dict[str, Any]:
    annotations: dict[str, Any] = {}
    for base in _bases(cls):
        annotations.update(_own_annotations(base))
    return annotations


def _bases(cls: type) -> Iterator[type]:
    return (base for base in reversed(cls.__mro__) if base is not object)


if sys.version_info >= (3, 14):
    import annotationlib

    def _own_annotations(cls: type) -> dict[str, Any]:
        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)

    _inspect_signature = partial(inspect.signature, annotation_format=annotationlib.Format.FORWARDREF)
else:

    def _own_annotations(cls: type) -> dict[str, Any]:
        return inspect.get_annotations(cls)

    _inspect_signature = inspect.signature


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """The signature, or None where Python cannot tell: some builtin functions and classes have none."""
    try:
        return _inspect_signature(function)
    except (TypeError, ValueError):
        return None


def _is_offered(name: str, value: Any, excluded: Collection[str]) -> bool:
    if not usable_name(name) or is_local_only(value):
        return False
    return is_force_remote(value) or not (name.startswith("_") or name in excluded)


def _describe(name: str, value: Any, annotation: Any) -> Capability:
    if is_hero_event(value):
        return EventCapability(name, _doc(value), is_reliable(value), event_keep(value))
    if isinstance(value, property):
        return _property(name, value.fget, "r" if value.fset is None else "rw")
    if isinstance(value, cached_property):
        return _property(name, value.func, "rw")
    if isinstance(value, staticmethod | classmethod):
        return _method(name, value.__func__, bound=isinstance(value, classmethod))
    if callable(value) or isinstance(value, partialmethod | singledispatchmethod):
        return _method(name, value, bound=hasattr(type(value), "__get__") and not isinstance(value, MethodType))
    if _is_callable(annotation):
        return _anything_goes(name)
    if annotation is None:
        is_descriptor = hasattr(type(value), "__get__")  # what it gives on reading, it alone knows
        return AttributeCapability(name, UNDEFINED if is_descriptor else type(value).__name__)
    return AttributeCapability(name, type_to_str(annotation))


def _property(name: str, getter: Callable[..., Any] | None, access: str) -> Capability:
    signature = None if getter is None else _signature(getter)
    annotation = inspect.Signature.empty if signature is None else signature.return_annotation
    if _is_callable(annotation):
        return _anything_goes(name, _doc(getter))
    return AttributeCapability(name, type_to_str(annotation), access, _doc(getter))


def _method(name: str, function: Any, bound: bool) -> MethodCapability:
    """Describe ``function``; with ``bound`` its first positional parameter is filled in by Python."""
    if isinstance(function, partialmethod | singledispatchmethod):
        function = function.__get__(None, object)  # an ordinary function, with the signature that is left
    signature = _signature(function)
    if signature is None:
        return _anything_goes(name, _doc(function))
    parameters = list(signature.parameters.values())
    if bound and parameters and parameters[0].kind in _POSITIONAL:
        del parameters[0]
    returns = signature.return_annotation
    return MethodCapability(
        name,
        tuple(map(Parameter.from_signature_parameter, parameters)),
        "None" if returns is inspect.Signature.empty else type_to_str(returns),
        _doc(function),
    )


def _anything_goes(name: str, doc: str = "") -> MethodCapability:
    """A method of which only the name is known."""
    args = Parameter("args", kind=int(inspect.Parameter.VAR_POSITIONAL))
    kwargs = Parameter("kwargs", kind=int(inspect.Parameter.VAR_KEYWORD))
    return MethodCapability(name, (args, kwargs), doc=doc)


def _doc(member: object) -> str:
    """The docstring of ``member`` itself, not that of its type."""
    doc = getattr(member, "__doc__", None)
    if not isinstance(doc, str) or doc == type(member).__doc__:
        return ""
    return inspect.cleandoc(doc)[:_MAX_TEXT]


# -- annotations and defaults as text -------------------------------------------------------------------------


def type_to_str(annotation: Any) -> str:
    """How an annotation reads, without its modules: ``"int"``, ``"list[float]"``, ``"str | None"``."""
    if annotation is inspect.Parameter.empty:
        return UNDEFINED
    if annotation is None:
        return "None"
    if isinstance(annotation, str):
        return annotation[:_MAX_TEXT]
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        return " | ".join("None" if part is type(None) else type_to_str(part) for part in typing.get_args(annotation))
    return _repr(annotation).replace("typing.", "").replace("collections.abc.", "")[:_MAX_TEXT]


def _is_callable(annotation: Any) -> bool:
    """Whether an annotation is ``Callable`` or ``Callable[...]``, also as text or inside ``ClassVar`` and others."""
    if isinstance(annotation, str):
        return _is_callable_text(annotation)
    if typing.get_origin(annotation) in (ClassVar, typing.Final, typing.Annotated):
        return _is_callable(typing.get_args(annotation)[0])
    return annotation is Callable or typing.get_origin(annotation) is Callable


def _is_callable_text(annotation: str) -> bool:
    try:
        node = ast.parse(annotation.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # quoted although annotations are text anyway
        return _is_callable_text(node.value)
    while isinstance(node, ast.Subscript):
        wrapper = _last_name(node.value)
        if wrapper not in ("ClassVar", "Final", "Annotated"):
            return wrapper == "Callable"
        inner = node.slice
        node = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
    return _last_name(node) == "Callable"


def _last_name(node: ast.expr) -> str:
    """``Callable`` of ``Callable`` and of ``typing.Callable``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _sendable(default: object) -> Any:
    """``default`` itself where it is small and plain enough to travel, else a text that shows it."""
    if _is_small(default) and not _is_undefined(default):
        return default
    text = _repr(default)
    return Opaque(text if len(text) <= _SMALL_TEXT else f"{text[: _SMALL_TEXT - 3]}...")


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _is_small(value: object) -> bool:
    # By exact type: what derives from int or str (an enum, a numpy scalar) would arrive as something else.
    if value is None or type(value) in (bool, float):
        return True
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if type(value) in (str, bytes):
        return len(value) <= _SMALL_TEXT  # type: ignore[arg-type]
    return type(value) is list and len(value) <= _SMALL_COLLECTION and all(map(_is_small_scalar, value))


def _is_small_scalar(value: object) -> bool:
    return type(value) is not list and _is_small(value)
