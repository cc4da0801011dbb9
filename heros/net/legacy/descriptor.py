"""How HEROs describe themselves in protocol 1.0 and here, as plain maps in both directions.

In protocol 1.0 a HERO has a *descriptor*, which a discovery asks for, and a list of capabilities. Their keys are in
``heros.capabilities``; ours have a few more, which existing HEROs are not sent. What comes in is untrusted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from heros.codec import ErrorDescription, HeroReference, MemberReference, ObjectReference
from heros.entry import Entry, check_name
from heros.exceptions import DecodeError
from heros.net.legacy import cbor

__all__ = ["Descriptor", "capabilities_from_legacy", "capabilities_to_legacy", "descriptor_of"]

PROTOCOL: Final = 1.0

UNDEFINED: Final = "undefined"

_ATTRIBUTE: Final = ("name", "flavor", "type", "access")
_EVENT: Final = ("name", "flavor")
_PARAMETER: Final = ("name", "type", "default", "kind")


def descriptor_of(entry: Entry) -> dict[str, Any]:
    """What a HERO of ours answers to a discovery of protocol 1.0."""
    return {
        "proto_version": PROTOCOL,
        "name": entry.name,
        "class": entry.class_name,
        "implements": set(entry.implements),
        "tags": set(entry.tags),
        "extra_metadata": dict(entry.extra_metadata),
    }


class Descriptor(NamedTuple):
    """What an existing HERO has answered to a discovery, checked."""

    name: str
    class_name: str
    implements: tuple[str, ...]
    tags: tuple[str, ...]
    extra_metadata: Mapping[str, str]
    protocol: float
    """1.0; 0.1 for one that does not say."""

    @classmethod
    def of(cls, value: Any) -> Descriptor:
        """Raises ``DecodeError`` for anything that is no descriptor."""
        if not isinstance(value, dict):
            raise DecodeError(f"the descriptor of a HERO is a map, not {type(value).__name__}")
        try:
            metadata = value.get("extra_metadata") or {}
            return cls(
                check_name(value.get("name")),  # type: ignore[arg-type]  # that is checked there
                _text(value.get("class", "")),
                _texts(value.get("implements")),
                _texts(value.get("tags")),
                {_text(key): _text(item) for key, item in metadata.items()},
                float(value.get("proto_version", 0.1)),
            )
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise DecodeError(f"not the descriptor of a HERO: {error}") from None


def capabilities_to_legacy(capabilities: Collection[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ours, as ``Capability.to_dict`` makes them, with the keys of protocol 1.0 alone."""
    return [_member_to_legacy(member) for member in capabilities]


def _member_to_legacy(member: Mapping[str, Any]) -> dict[str, Any]:
    if member["flavor"] == "method":
        return {
            "name": member["name"],
            "flavor": "method",
            "parameters": [{key: parameter[key] for key in _PARAMETER} for parameter in member["parameters"]],
            "return_type": member["return_type"],
        }
    return {key: member[key] for key in (_ATTRIBUTE if member["flavor"] == "attribute" else _EVENT)}


def capabilities_from_legacy(value: Any) -> list[dict[str, Any]]:
    """Those of an existing HERO as ``heros.capabilities.from_list`` takes them, which checks the rest.

    Members of a flavor that is not known are left out. A default that cannot be shown as it is becomes a text.

    Raises:
        DecodeError: it is no list of maps.
    """
    if value is None:
        return []
    members = []
    for member in _maps(value, "the capabilities of a HERO"):
        if member.get("flavor") == "method":
            parameters = _maps(member.get("parameters", []), "the parameters of a method")
            members.append(
                {
                    "name": member.get("name"),
                    "flavor": "method",
                    "parameters": [_parameter_from_legacy(parameter) for parameter in parameters],
                    "return_type": member.get("return_type") or "None",
                }
            )
        elif member.get("flavor") == "attribute":
            access = member.get("access")
            members.append(
                {
                    "name": member.get("name"),
                    "flavor": "attribute",
                    "type": member.get("type", UNDEFINED),
                    "access": access if access in ("r", "rw") else "rw",
                }
            )
        elif member.get("flavor") == "event":
            members.append({key: member.get(key) for key in _EVENT})
    return members


def _parameter_from_legacy(parameter: dict[Any, Any]) -> dict[str, Any]:
    fields = {
        "name": parameter.get("name"),
        "type": parameter.get("type", UNDEFINED),
        "default": parameter.get("default", UNDEFINED),
        "kind": parameter.get("kind"),
    }
    shown = _shown(fields["default"])
    if shown is not None:
        fields.update(default=shown, opaque=True)
    return fields


def _shown(default: Any) -> str | None:
    """The text that shows a default which is more than a value; None: it is shown as it is."""
    if isinstance(default, ObjectReference):
        return default.representation
    if isinstance(default, HeroReference):
        return f"<HERO {default.name}>"
    if isinstance(default, MemberReference):
        return f"<{default.flavor} {default.name}.{default.member}>"
    if isinstance(default, ErrorDescription):
        return f"{default.type}({default.message!r})"
    if isinstance(default, np.ndarray):
        return cbor.shown(default)
    return None


def _maps(value: Any, what: str) -> list[dict[Any, Any]]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, dict) for item in value):
        raise DecodeError(f"{what} are a list of maps")
    return list(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, set | list | tuple | frozenset):
        raise TypeError(f"{type(value).__name__} is no list of texts")
    return tuple(sorted(map(_text, value)))
