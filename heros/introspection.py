"""Looking at a class: what its instances offer to others.

``collect`` looks at a class, never at an instance, and runs none of its code: a property is described without being
read. A member is looked up as Python would (the first class of the MRO that has it), annotations count as members,
and what is private, ``@local_only`` or part of the base class is left out. The order is that of the names, so that
both sides of a link can number the members.
"""

from __future__ import annotations

import ast
import inspect
import sys
import typing
from collections.abc import Callable, Collection, Iterator
from functools import cached_property, partial, partialmethod, singledispatchmethod
from types import MethodType, UnionType
from typing import Any, ClassVar

from heros.capabilities import (
    MAX_TEXT,
    POSITIONAL,
    UNDEFINED,
    AttributeCapability,
    Capability,
    EventCapability,
    MethodCapability,
    Opaque,
    Parameter,
    usable_name,
)
from heros.inspect import event_keep, is_force_remote, is_hero_event, is_local_only, is_reliable

__all__ = ["collect", "type_to_str"]

_SMALL_TEXT = 200
_SMALL_COLLECTION = 16
"""Largest str and list that travel as a parameter's default; a default is there to be read by people."""


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
    if bound and parameters and parameters[0].kind in POSITIONAL:
        del parameters[0]
    returns = signature.return_annotation
    return MethodCapability(
        name,
        tuple(map(_parameter, parameters)),
        "None" if returns is inspect.Signature.empty else type_to_str(returns),
        _doc(function),
    )


def _parameter(parameter: inspect.Parameter) -> Parameter:
    missing = parameter.default is inspect.Parameter.empty
    return Parameter(
        name=parameter.name,
        type=type_to_str(parameter.annotation),
        default=UNDEFINED if missing else _sendable(parameter.default),
        kind=int(parameter.kind),
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
    return inspect.cleandoc(doc)[:MAX_TEXT]


# -- annotations and defaults as text -------------------------------------------------------------------------


def type_to_str(annotation: Any) -> str:
    """How an annotation reads, without its modules: ``"int"``, ``"list[float]"``, ``"str | None"``."""
    if annotation is inspect.Parameter.empty:
        return UNDEFINED
    if annotation is None:
        return "None"
    if isinstance(annotation, str):
        return annotation[:MAX_TEXT]
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        return " | ".join("None" if part is type(None) else type_to_str(part) for part in typing.get_args(annotation))
    return _repr(annotation).replace("typing.", "").replace("collections.abc.", "")[:MAX_TEXT]


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
    if _is_small(default) and not (isinstance(default, str) and default == UNDEFINED):
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
