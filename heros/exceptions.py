"""The exceptions of heros, in one tree.

Foreign errors (zenoh, msgpack, the operating system) are translated where they enter the package, so a program needs
to know only the names below. Most of them are also the builtin a Python programmer would expect: ``except NameError``,
``except TimeoutError`` and ``except ConnectionError`` work. An argument that makes no sense is a plain ``ValueError``
or ``TypeError``, as everywhere in Python.

::

    HEROSError
    ├── RemoteHEROError                    the remote side raised; also the remote builtin, e.g. ValueError
    ├── RemoteTransportError               the way to the remote side failed
    │   └── PeerLost(ConnectionError)      the process at the other end is gone; the outcome of the call is unknown
    ├── HEROUnavailable(NameError)         no such HERO, or it has been withdrawn
    ├── NameInUse(ValueError)              ``exclusive=True`` and the name is taken
    ├── CallTimeout(TimeoutError)          no reply before the time-out; the outcome of the call is unknown
    ├── PoolExhausted(TimeoutError)        every frame of a FramePool is in use
    ├── OutOfSharedMemory(MemoryError)     the quota of shared memory, or the machine's memory, is used up
    ├── EncodeError(TypeError)             a value that cannot be sent
    └── DecodeError(ValueError)            bytes that are no valid message
"""

from __future__ import annotations

__all__ = [
    "CallTimeout",
    "DecodeError",
    "EncodeError",
    "HEROSError",
    "HEROUnavailable",
    "NameInUse",
    "OutOfSharedMemory",
    "PeerLost",
    "PoolExhausted",
    "RemoteHEROError",
    "RemoteTransportError",
]


class HEROSError(Exception):
    """Base of the exceptions of this package."""


class RemoteHEROError(HEROSError):
    """The remote side raised an exception while it served a call.

    Where the remote exception was a builtin, the instance is of a class that derives from both, so that
    ``except ValueError`` works on either side of a proxy. It has the ``args`` and fields of the builtin, such as
    ``errno`` and ``filename``, if they are numbers, texts or bytes, and short.

    Attributes:
        message: the text of the remote exception.
        remote_type: the name of its class, e.g. ``"ValueError"``.
        remote_module: the module of its class, e.g. ``"builtins"``.
        remote_traceback: the traceback of the remote side as Python prints it, with what caused the exception and the
            members of a group, but without the frames of heros; may be empty.
        endpoint: what was called, as ``realm/name/member``.
    """

    def __init__(
        self,
        message: str = "",
        remote_type: str = "",
        remote_module: str = "",
        remote_traceback: str = "",
        endpoint: str = "",
    ) -> None:
        self.args = (message,)  # not by super(): beside it may be a builtin that insists on other arguments
        self.message = message
        self.remote_type = remote_type
        self.remote_module = remote_module
        self.remote_traceback = remote_traceback
        self.endpoint = endpoint

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class RemoteTransportError(HEROSError):
    """The way to the remote side failed."""


class PeerLost(RemoteTransportError, ConnectionError):
    """The process at the other end is gone. A call that was under way may or may not have been carried out."""


class HEROUnavailable(HEROSError, NameError):
    """There is no such HERO, or it has been withdrawn. The call was not carried out."""


class NameInUse(HEROSError, ValueError):
    """Another HERO has this name and ``exclusive=True`` was asked for."""


class CallTimeout(HEROSError, TimeoutError):
    """No reply arrived before the time-out. The call may or may not have been carried out."""


class PoolExhausted(HEROSError, TimeoutError):
    """Every frame of a ``FramePool`` is still held by the producer or by a reader."""


class OutOfSharedMemory(HEROSError, MemoryError):
    """The quota of shared memory (``HEROS_SHM_QUOTA``) or the memory of the machine is used up."""


class EncodeError(HEROSError, TypeError):
    """A value that cannot be sent to another process."""


class DecodeError(HEROSError, ValueError):
    """Bytes that are not a valid message. The connection's next message works."""
