"""Exceptions on their way between processes: described by the side that raised, built again by the side that called."""

from __future__ import annotations

import builtins
import os
import traceback
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from heros import exceptions
from heros.codec import ErrorDescription, Plain
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
    name, module = kind.__name__, kind.__module__
    try:
        message = str(error)
        if isinstance(error, RemoteHEROError) and error.remote_type:  # of a third HERO: it stays what it was there
            name, module, message = error.remote_type, error.remote_module or "builtins", str(error.message)
    except Exception as failure:
        message = f"<{kind.__name__} whose text could not be made: {type(failure).__name__}>"
    try:
        trace = _traceback(error)
    except Exception:
        trace = ""
    if len(message) > MAX_TEXT:
        cut = f"{message[:MAX_TEXT]} [... cut here; it had {len(message)} characters]"
        trace = trace.replace(message, "[the message]")
        message = cut
    if len(trace) > MAX_TEXT:
        trace = f"[the first {len(trace) - MAX_TEXT} characters are cut ...] {trace[-MAX_TEXT:]}"
    name, module, message, trace = map(_sendable, (name, module, message, trace))
    return ErrorDescription(name, module, message, trace, _arguments(error) if module == "builtins" else ())


def _traceback(error: BaseException) -> str:
    """The traceback of ``error`` with its causes and, of a group, its members, as Python prints it. The frames of heros
    are left out, as they tell the user nothing; what has no others, and no cause, has none."""
    whole = traceback.TracebackException.from_exception(error)
    _leave_out_own(whole, set())
    if whole.stack or whole.__cause__ or whole.__context__ or isinstance(error, BaseExceptionGroup):
        return "".join(whole.format())
    return ""


def _leave_out_own(part: traceback.TracebackException | None, seen: set[int]) -> None:
    if part is None or id(part) in seen:
        return
    seen.add(id(part))
    part.stack[:] = [frame for frame in part.stack if not frame.filename.startswith(_OWN) or _DEMO in frame.filename]
    for other in (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())):
        _leave_out_own(other, seen)


_OWN = os.path.join(os.path.dirname(__file__), "")
_DEMO = os.path.join(_OWN, "demo")  # a user of heros like others


def _arguments(error: BaseException) -> tuple[Plain, ...]:
    """What a builtin exception can be made of again, if it is plain and short; else nothing."""
    try:
        arguments = error.__reduce__()[1]  # not args: those of an OSError lack the file's name
        assert isinstance(arguments, tuple)
        arguments = tuple(os.fspath(each) if isinstance(each, os.PathLike) else each for each in arguments)
        return arguments if all(map(_is_plain, arguments)) else ()
    except Exception:
        return ()


def _is_plain(value: object) -> bool:
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) <= KIB  # type: ignore[arg-type]
    return value is None or kind is bool or kind is float or (kind is int and -(2**63) <= value < 2**63)  # type: ignore[operator]


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
    told = message, description.type, description.module, description.traceback, endpoint
    error = cls(*told) if cls is RemoteHEROError else _made_again(cls, description.arguments or (message,), told)
    error.message = description.message
    if description.traceback:
        error.add_note(f"Raised by {endpoint}, at the owner:\n{description.traceback.rstrip()}")
    return error


def _made_again(cls: type[RemoteHEROError], arguments: tuple[Plain, ...], told: tuple[str, ...]) -> RemoteHEROError:
    """With the fields that the builtin makes of its arguments, if it takes them."""
    layout: Any = cls.__base__  # whichever of the two decides
    builtin: Any = cls.__bases__[1]
    try:
        error: RemoteHEROError = layout.__new__(cls, *arguments)
        builtin.__init__(error, *arguments)
    except Exception:
        arguments = told[:1]
        error = layout.__new__(cls, *arguments)
        error.args = arguments
    arguments = error.args
    RemoteHEROError.__init__(error, *told)
    error.args = arguments
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
        base: Any = cls.__base__  # an OSError takes its fields from here only if there is a __new__ beside __init__
        made: RemoteHEROError = base.__new__(cls, *args)
        return made

    namespace = {
        "__module__": RemoteHEROError.__module__,
        "__doc__": f"A remote {name}.",
        "__new__": __new__,
        "__str__": lambda self: self.message,
    }
    try:
        return type(f"Remote{name}", (RemoteHEROError, builtin), namespace)
    except TypeError:  # a builtin whose layout cannot be combined
        return RemoteHEROError
