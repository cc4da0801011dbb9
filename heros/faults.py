"""Exceptions on their way between processes: described by the side that raised, built again by the side that called."""

from __future__ import annotations

import builtins
import traceback
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from heros import exceptions
from heros.codec import ErrorDescription
from heros.exceptions import RemoteHEROError
from heros.limits import KIB

__all__ = ["describe", "rebuild"]

MAX_TEXT: Final = 64 * KIB
"""Characters of a message, and of a traceback: more than anybody reads, and far below what a header may hold."""

_HOMES = {"builtins": builtins, "heros.exceptions": exceptions}
"""Modules whose exceptions exist on both sides."""


def describe(error: BaseException) -> ErrorDescription:
    """What the caller is told of ``error``. Never raises, whatever the exception's own methods do, and always can be
    sent: an overlong message or traceback is cut and says so, lone surrogates (of a file name) become ``\\udc..``."""
    kind = type(error)
    try:
        message = str(error)
    except Exception as failure:
        message = f"<{kind.__name__} whose text could not be made: {type(failure).__name__}>"
    try:
        # The first frame is dispatch's own; it tells the user nothing.
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        trace = "".join(traceback.format_tb(frames))
    except Exception:
        trace = ""
    if len(message) > MAX_TEXT:
        message = f"{message[:MAX_TEXT]} [... cut here; it had {len(message)} characters]"
    if len(trace) > MAX_TEXT:
        trace = f"[the first {len(trace) - MAX_TEXT} characters are cut ...] {trace[-MAX_TEXT:]}"
    return ErrorDescription(*map(_sendable, (kind.__name__, kind.__module__, message, trace)))


def _sendable(text: object) -> str:
    return str(text).encode(errors="backslashreplace").decode()


def rebuild(description: ErrorDescription, endpoint: str) -> RemoteHEROError:
    """The exception to raise for ``description``: a ``RemoteHEROError`` that is also the builtin, or the
    exception of heros, if it was one."""
    home = _HOMES.get(description.module)
    cls = RemoteHEROError if home is None else _error_class(home, description.type)
    message = description.message
    if cls is RemoteHEROError:  # the class is not to be seen otherwise
        message = f"{description.type}: {message}" if message else description.type
    error = cls(message, description.type, description.module, description.traceback, endpoint)
    error.message = description.message
    if description.traceback:
        error.add_note(f"Raised by {endpoint}, at the owner:\n{description.traceback.rstrip()}")
    return error


@lru_cache(maxsize=256)
def _error_class(home: ModuleType, name: str) -> type[RemoteHEROError]:
    builtin = getattr(home, name, None)
    # SystemExit, KeyboardInterrupt and GeneratorExit of a server must not end its clients. StopIteration must not
    # end a loop that happens to call a HERO.
    if (
        not isinstance(builtin, type)
        or not issubclass(builtin, Exception)
        or issubclass(builtin, (StopIteration, StopAsyncIteration, BaseExceptionGroup))
    ):
        return RemoteHEROError
    if issubclass(RemoteHEROError, builtin):
        return RemoteHEROError

    def __new__(cls: type[RemoteHEROError], *args: object) -> RemoteHEROError:
        base: Any = cls.__base__  # whichever of the two decides the layout
        made: RemoteHEROError = base.__new__(cls, *args[:1])  # OSError reads more into more
        return made

    namespace = {"__module__": RemoteHEROError.__module__, "__doc__": f"A remote {name}.", "__new__": __new__}
    try:
        return type(f"Remote{name}", (RemoteHEROError, builtin), namespace)
    except TypeError:  # a builtin whose layout cannot be combined
        return RemoteHEROError
