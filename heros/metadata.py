"""What a HERO tells about itself: which interfaces it implements, its tags, and free text."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from heros.version import __proto_version__, __version__

__all__ = ["Metadata", "package_versions"]

_PACKAGES = {
    "boss": "heros-boss",
    "herosdevices": "herosdevices",
    "herostools": "herostools",
    "atomiq": "atomiq",
}
"""Packages whose versions a HERO reports: the name it reports, and the name it is installed under."""


@cache
def package_versions() -> dict[str, str]:
    """The versions of heros and of the packages around it; ``"not installed"`` for those that are missing."""
    versions = {"heros": __version__}
    for label, distribution in _PACKAGES.items():
        try:
            versions[label] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[label] = "not installed"
    return versions


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of one HERO. Names appear once, in the order in which they were given."""

    implements: tuple[str, ...]
    tags: tuple[str, ...]
    extra_metadata: Mapping[str, str]

    @classmethod
    def of(
        cls,
        hero_class: type,
        implements: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        extra_metadata: Mapping[str, str] | None = None,
    ) -> Metadata:
        """Join what ``hero_class`` declares (``_hero_implements``, ``_hero_tags``, ``_hero_extra_metadata``) with what
        its constructor was given, and add the protocol's tag and the versions of the packages.

        Where both have the same key of ``extra_metadata``, the class wins, as in the original HEROS. None of the
        objects that are passed in is kept or modified.

        Raises:
            TypeError: names that are not a collection of str, or metadata that does not map str to str.
        """
        return cls(
            implements=_names("implements", implements, getattr(hero_class, "_hero_implements", None)),
            tags=_names(
                "tags", tags, getattr(hero_class, "_hero_tags", None), (f"_proto_version:{__proto_version__}",)
            ),
            extra_metadata={
                **_mapping("extra_metadata", extra_metadata),
                **_mapping("_hero_extra_metadata", getattr(hero_class, "_hero_extra_metadata", None)),
                "pkg_versions": json.dumps(package_versions()),
            },
        )


def _names(what: str, *collections: object) -> tuple[str, ...]:
    names: dict[str, None] = {}  # a set that keeps the order
    for collection in collections:
        if collection is None:
            continue
        if isinstance(collection, str | Mapping) or not isinstance(collection, Collection):
            raise TypeError(f"{what} must be a list of str, not {collection!r}. Write a single one as [name]")
        for name in collection:
            if not isinstance(name, str):
                raise TypeError(f"{what} must be a list of str, but it contains {name!r}")
            names[name] = None
    return tuple(names)


def _mapping(what: str, given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a dict of str to str, not {given!r}")
    for key, value in given.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"{what} must be a dict of str to str, but it contains {key!r}: {value!r}")
    return dict(given)
