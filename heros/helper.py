"""An import path of existing programs: logging, names in key expressions, a realm's multicast address."""

from __future__ import annotations

import logging
import os
import re
from typing import Any, Final

from heros.exceptions import HEROSError
from heros.net.config import generate_multicast_address

__all__ = ["generate_multicast_address", "get_logger", "log", "object_name_from_keyexpr"]

FORMAT = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"

SPAM: Final = 5
"""A level below DEBUG, for what a driver says to its device."""


class Logger(logging.Logger):
    """What programs expect of a logger from here beyond that of ``logging``. It is not made the class of others."""

    def setLevel(self, level: int | str, globally: bool = False) -> None:
        """Set the level: a number or a name, in any case.

        Args:
            globally: set that of all loggers there are, and ``HEROS_LOG``, for the processes that this one starts.
        """
        level = _level(level)
        super().setLevel(level)
        if globally:
            os.environ["HEROS_LOG"] = str(level)
            for logger in tuple(logging.root.manager.loggerDict.values()):
                if isinstance(logger, logging.Logger):
                    logger.setLevel(level)

    def spam(self, message: object, *args: object, **kwargs: Any) -> None:
        """Log with the level ``SPAM``."""
        if self.isEnabledFor(SPAM):
            self._log(SPAM, message, args, **kwargs)


def _level(level: int | str) -> int | str:
    if isinstance(level, str):
        text = level.strip()
        return int(text) if text.isdecimal() else text.upper()
    return level


def _logger(name: str) -> logging.Logger:
    logging.addLevelName(SPAM, "SPAM")
    logger = logging.getLogger(name)
    if type(logger) is logging.Logger:  # not one that another library has made what it is
        logger.__class__ = Logger
    return logger


log = _logger("heros")
"""The logger above all others of the package."""


def get_logger(name: str = "heros") -> logging.Logger:
    """The logger of that name, for a program that wants to see its messages without configuring ``logging``.

    If nobody has configured ``logging``, messages from INFO on go to standard error from now on. The environment
    variable ``HEROS_LOG``, a name or a number, sets the level of this logger. It is a :class:`Logger`, unless another
    library has set a class of its own for all loggers.

    Raises:
        HEROSError: ``HEROS_LOG`` is not a level.
    """
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    logger = _logger(name)
    level = os.environ.get("HEROS_LOG", "")
    if level.strip():
        try:
            logger.setLevel(_level(level))
        except ValueError:
            raise HEROSError(
                f"HEROS_LOG={level!r} is not a level. Use SPAM, DEBUG, INFO, WARNING, ERROR or a number."
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
