"""An import path of existing programs: logging, names in key expressions, a realm's multicast address."""

from __future__ import annotations

import logging
import os
import re

from heros.exceptions import HEROSError
from heros.net.config import generate_multicast_address

__all__ = ["generate_multicast_address", "get_logger", "log", "object_name_from_keyexpr"]

log = logging.getLogger("heros")
"""The logger above all others of the package."""

FORMAT = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"


def get_logger(name: str = "heros") -> logging.Logger:
    """The logger of that name, for a program that wants to see its messages without configuring ``logging``.

    If nobody has configured ``logging``, messages from INFO on go to standard error from now on. The environment
    variable ``HEROS_LOG``, a name or a number, sets the level of this logger.

    Raises:
        HEROSError: ``HEROS_LOG`` is not a level.
    """
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    logger = logging.getLogger(name)
    level = os.environ.get("HEROS_LOG", "").strip()
    if level:
        try:
            logger.setLevel(int(level) if level.isdecimal() else level.upper())
        except ValueError:
            raise HEROSError(
                f"HEROS_LOG={level!r} is not a level. Use DEBUG, INFO, WARNING, ERROR or a number."
            ) from None
    return logger


def object_name_from_keyexpr(key_expr: object, ns_objects: str, realm: str, endpoint: str = ".*") -> str | None:
    """The name of the HERO in a key expression ``<ns_objects>/<realm>/<name>/<endpoint>``; None if it is not one.

    Args:
        key_expr: a str, or anything whose ``str`` is the key expression.
        ns_objects: the first part, ``"@object"`` for HEROs.
        realm: the realm.
        endpoint: a regular expression for what follows the name.
    """
    found = re.search(rf"{re.escape(ns_objects)}/{re.escape(realm)}/([^/]*)/{endpoint}", str(key_expr))
    return found[1] if found else None
