"""One zenoh session, and what the rest of this package needs of it, in its own words.

Beside this module only ``engine`` (the library), ``config`` (a session's configuration) and ``qos`` (its constants)
touch zenoh.

Rules
    - zenoh is imported by :meth:`Bus.open`, which takes a quarter of a second and runs on a thread of its own.
    - Every callback runs directly on one of zenoh's threads. It must not block, run user code or call into zenoh;
      :func:`in_callback` tells whether the calling thread is in one. What it raises is logged here.
    - zenoh's exceptions become ``RemoteTransportError``.
    - A session that a fork has inherited must not be touched, not even to free it: see :meth:`Bus.abandon`.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from heros import limits
from heros.exceptions import HEROSError, RemoteTransportError
from heros.net import engine
from heros.net.config import session_config

if TYPE_CHECKING:
    import zenoh

__all__ = [
    "UNREAD_BYTES",
    "Answer",
    "Audience",
    "Bus",
    "Declared",
    "Encoding",
    "Mailbox",
    "Message",
    "OnAnswer",
    "OnJson",
    "OnPresence",
    "OnQuery",
    "OnQuestion",
    "OnSample",
    "Question",
    "Sender",
    "in_callback",
    "unpack",
]

log = logging.getLogger("heros.net")

_T = TypeVar("_T", bound="Declared")

CLOSE_SECONDS: Final = 1.0
"""How long zenoh may take to close a session: a program must be able to end in less than two seconds."""

SENDING_SECONDS: Final = 0.01
"""How often a session that is to be closed looks whether anybody is still sending."""

UNREAD_BYTES: Final = 64 * limits.KIB
"""What may be on its way to a peer, and not yet be read, without a sender being made to wait: as much as one batch of
zenoh, of which each queue has two."""

_DEFECT: Final = "Receiving from the network failed; this is a defect of heros, please report it"

OnSample: TypeAlias = Callable[[str, bytes, "bytes | None"], None]
"""Key, payload, attachment."""
OnPresence: TypeAlias = Callable[[str, bool], None]
"""Key of a liveliness token, and whether it has appeared or gone."""
OnQuery: TypeAlias = Callable[[bytes], "list[bytes]"]
"""Payload of the query; returns the replies."""
OnJson: TypeAlias = Callable[[str, bytes], None]
"""Key and payload of one reply of our own protocol."""
OnQuestion: TypeAlias = "Callable[[Question], None]"
Encoding: TypeAlias = Literal["json", "cbor"]


class Answer(NamedTuple):
    """One reply to a query, whatever its encoding."""

    key: str
    """Empty for an error."""
    payload: bytes
    is_error: bool
    is_cbor: bool
    zid: str
    """The id of the session that answered; empty when zenoh does not tell."""


OnAnswer: TypeAlias = Callable[[Answer], None]


class Declared(Protocol):
    """Something declared in a session."""

    def undeclare(self) -> object: ...


_inside: set[int] = set()
"""The threads that are in a callback. (A ``threading.local`` would be made anew for each callback: zenoh's threads
are no threads of Python.)"""


def in_callback() -> bool:
    """Whether this thread is one of zenoh's, or sends to its own process, and must therefore not send."""
    return threading.get_ident() in _inside


class Sending:
    """The threads that send at this moment, and may be waiting for a peer that does not read."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __enter__(self) -> None:
        self.threads.add(threading.get_ident())

    def __exit__(self, *exception: object) -> None:
        self.threads.discard(threading.get_ident())

    def __bool__(self) -> bool:
        return bool(self.threads)


class Sender:
    """Sends to one key expression, in order and without loss while the peer is connected; blocks when it is slow.

    Args:
        sending: of the session.
    """

    def __init__(self, publisher: Any, error: type[Exception], sending: Sending) -> None:
        self._publisher = publisher
        self._error = error
        self._sending = sending.threads

    def put(self, payload: Any, attachment: bytes | None = None) -> None:
        """Send ``payload``: bytes, or what :meth:`Bus.share` has made of them.

        Raises:
            RemoteTransportError: the session is closed.
        """
        thread = threading.get_ident()
        self._sending.add(thread)
        try:
            if attachment is None:
                self._publisher.put(payload)
            else:
                self._publisher.put(payload, attachment=attachment)
        except self._error as error:
            raise RemoteTransportError(f"the network session does not send: {error}") from None
        finally:
            self._sending.discard(thread)

    def undeclare(self) -> None:
        try:
            self._publisher.undeclare()
        except self._error:
            pass  # the session is closed, and took it along
        except RuntimeError as error:  # another thread sends with it at this moment, to a peer that does not read
            log.debug("a sender is undeclared when it is no longer used: %s", error)


class Question:
    """A query that may be answered at any time, from any thread. Whoever asked waits until it is closed.

    What is sent blocks while the peer is slow. To one that has given up, or in a session that is closed, nothing is
    sent.
    """

    def __init__(self, query: Any, encodings: dict[Encoding, Any], error: type[Exception], sending: Sending) -> None:
        payload = query.payload
        self.key = str(query.key_expr)
        self.payload: bytes | None = None if payload is None else payload.to_bytes()
        self._query = query
        self._encodings = encodings
        self._error = error
        self._sending = sending

    def reply(self, key: str, payload: bytes, encoding: Encoding) -> None:
        """Answer. There may be several answers."""
        try:
            with self._sending:
                self._query.reply(key, payload, encoding=self._encodings[encoding])
        except self._error as error:
            log.debug("a reply is not sent: %s", error)

    def fail(self, payload: bytes, encoding: Encoding) -> None:
        """Answer with an error."""
        try:
            with self._sending:
                self._query.reply_err(payload, encoding=self._encodings[encoding])
        except self._error as error:
            log.debug("an error reply is not sent: %s", error)

    def close(self) -> None:
        """There will be no further answer."""
        with self._sending:
            self._query.__exit__(None, None, None)


class Audience:
    """A publisher that knows whether anybody, in another process, has subscribed to what it sends."""

    def __init__(self, publisher: Any, error: type[Exception], sending: Sending) -> None:
        self._publisher = publisher
        self._error = error
        self._sending = sending
        self.listener: Any = None

    @property
    def present(self) -> bool:
        """Whether there is a subscriber at this moment; False in a session that is closed."""
        try:
            status = self._publisher.matching_status
        except self._error:
            return False
        return bool(getattr(status, "matching", status))  # its type differs between versions of zenoh

    def put(self, payload: bytes) -> None:
        """Send, and wait while somebody is slow. Raises ``RemoteTransportError``: the session is closed."""
        try:
            with self._sending:
                self._publisher.put(payload)
        except self._error as error:
            raise RemoteTransportError(f"the network session does not send: {error}") from None

    def undeclare(self) -> None:
        for declared in (self.listener, self._publisher):
            try:
                declared.undeclare()
            except self._error:
                pass  # the session is closed, and took it along
            except RuntimeError as error:  # another thread sends with it at this moment
                log.debug("a publisher is undeclared when it is no longer used: %s", error)


Message: TypeAlias = Any
"""A ``zenoh.Sample`` in a mailbox. :func:`unpack` reads it."""

_ONCE: Final = ((),)
"""What to call a function with, once: nothing."""


def unpack(message: Message) -> tuple[str, bytes, bytes | None]:
    """Key, payload, attachment."""
    attachment = message.attachment
    return str(message.key_expr), message.payload.to_bytes(), None if attachment is None else attachment.to_bytes()


class Mailbox:
    """Samples that wait to be taken. Several threads may take them; each sample goes to one."""

    def __init__(self, subscriber: Any, error: type[Exception]) -> None:
        self._subscriber = subscriber
        self._receive = subscriber.handler.recv  # a call of the subscriber's own recv() would bar its undeclare()
        self._try_receive = subscriber.handler.try_recv
        self._error = error

    def receive(self) -> Message | None:
        """The next message; waits for it. None once the mailbox is closed."""
        try:
            return self._receive()
        except self._error:
            return None

    def receive_into(self, received: deque[Message]) -> bool:
        """Wait for a message and append it; False once the mailbox is closed. No signal handler runs between the two
        steps, so that Ctrl-C loses nothing: both are done by C."""
        try:
            received.extend(itertools.starmap(self._receive, _ONCE))
        except self._error:
            return False
        return True

    def take_into(self, received: deque[Message]) -> bool:
        """Append a message, if one waits."""
        try:
            message = self._try_receive()
        except self._error:
            return False
        if message is None:
            return False
        received.append(message)
        return True

    def undeclare(self) -> None:
        """Close it: what waits is still taken."""
        self._subscriber.undeclare()


class Bus:
    """One zenoh session. Thread-safe."""

    def __init__(self) -> None:
        self._session: zenoh.Session | None = None
        self._zenoh: Any = None
        self._kept: list[Declared] = []
        self._sending = Sending()

    def open(self, realm: str) -> None:
        """Open the session.

        Raises:
            HEROSError: the configuration is not valid, or an endpoint cannot be listened on.
        """
        zenoh = engine.load()
        config = session_config(realm)
        try:
            self._session = engine.open_session(config)
        except zenoh.ZError as error:
            raise HEROSError(
                f"the network of realm {realm!r} cannot be opened: {engine.reason(error)}. Check "
                "HEROS_ZENOH_CONFIG, or set HEROS_NET=off to stay on this host."
            ) from None
        self._zenoh = zenoh

    @property
    def session(self) -> zenoh.Session:
        session = self._session
        if session is None:
            raise RemoteTransportError("the network session is closed")
        return session

    @property
    def zid(self) -> str:
        """The id of the session, as zenoh knows it."""
        return str(self.session.zid())

    def connected(self) -> bool:
        """Whether any other session is connected to this one."""
        info = self.session.info
        return bool(info.peers_zid() or info.routers_zid())

    # -- declaring --------------------------------------------------------------------------------------------

    def sender(self, key: str, urgent: bool) -> Sender:
        """``urgent`` samples have a queue of their own, and do not wait behind the others."""
        z = self._zenoh
        declared = self._declare(
            self.session.declare_publisher,
            key,
            congestion_control=z.CongestionControl.BLOCK,
            priority=z.Priority.DATA_HIGH if urgent else z.Priority.DATA,
            express=True,
        )
        return self._keep(Sender(declared, z.ZError, self._sending))

    def subscribe(self, key: str, on_sample: OnSample) -> Declared:
        def callback(sample: zenoh.Sample) -> None:
            thread = threading.get_ident()
            nested = thread in _inside
            _inside.add(thread)
            try:
                on_sample(*unpack(sample))
            except Exception:
                log.exception(_DEFECT)
            finally:
                if not nested:
                    _inside.discard(thread)

        declared: Declared = self._declare(self.session.declare_subscriber, key, self._direct(callback))
        return self._keep(declared)

    def mailbox(self, key: str, capacity: int) -> Mailbox:
        """A subscription whose samples wait until they are taken; when ``capacity`` wait, zenoh's threads do too."""
        declared = self._declare(self.session.declare_subscriber, key, self._zenoh.handlers.FifoChannel(capacity))
        return self._keep(Mailbox(declared, self._zenoh.ZError))

    def answer(self, key: str, on_query: OnQuery) -> Declared:
        """Declare a queryable that answers with JSON."""
        encoding = self._zenoh.Encoding.APPLICATION_JSON

        def callback(query: zenoh.Query) -> None:
            with query:
                payload = query.payload
                answers = on_query(b"" if payload is None else payload.to_bytes())
                for answer in answers:
                    query.reply(key, answer, encoding=encoding)

        guarded = self._direct(lambda query: _guarded(callback, query))
        declared: Declared = self._declare(self.session.declare_queryable, key, guarded)
        return self._keep(declared)

    def serve(self, key: str, on_question: OnQuestion) -> Declared:
        """Declare a queryable whose queries are answered later: ``on_question`` takes charge of each."""
        z = self._zenoh
        encodings: dict[Encoding, Any] = {
            "json": z.Encoding.APPLICATION_JSON,
            "cbor": z.Encoding.APPLICATION_CBOR,
        }

        def callback(query: zenoh.Query) -> None:
            on_question(Question(query, encodings, z.ZError, self._sending))

        guarded = self._direct(lambda query: _guarded(callback, query))
        declared: Declared = self._declare(self.session.declare_queryable, key, guarded)
        return self._keep(declared)

    def audience(self, key: str, on_change: Callable[[], None]) -> Audience:
        """Declare a publisher as existing HEROs have it; ``on_change`` is called when its first subscriber comes and
        when the last one goes. Subscribers of this session do not count."""
        z = self._zenoh
        publisher = self._declare(
            self.session.declare_publisher,
            key,
            congestion_control=z.CongestionControl.BLOCK,
            allowed_destination=z.Locality.REMOTE,
        )
        audience = Audience(publisher, z.ZError, self._sending)
        try:
            audience.listener = publisher.declare_matching_listener(self._direct(lambda _: _guarded(on_change)))
        except z.ZError as error:
            raise RemoteTransportError(f"the network session refuses {key}: {error}") from None
        return self._keep(audience)

    def token(self, key: str) -> Declared:
        declared: Declared = self._declare(self.session.liveliness().declare_token, key)
        return self._keep(declared)

    def watch_tokens(self, key: str, on_presence: OnPresence) -> Declared:
        """Be told of the tokens that match ``key``, also of those that are there already."""
        deleted = self._zenoh.SampleKind.DELETE

        def callback(sample: zenoh.Sample) -> None:
            _guarded(on_presence, str(sample.key_expr), sample.kind != deleted)

        declared: Declared = self._declare(
            self.session.liveliness().declare_subscriber, key, self._direct(callback), history=True
        )
        return self._keep(declared)

    def _declare(self, declare: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return declare(*arguments, **options)
        except self._zenoh.ZError as error:
            raise RemoteTransportError(f"the network session refuses {arguments[0]}: {error}") from None

    def _keep(self, declared: _T) -> _T:
        self._kept.append(declared)
        return declared

    def _direct(self, callback: Callable[[Any], None], drop: Callable[[], None] | None = None) -> Any:
        return self._zenoh.handlers.Callback(callback, drop, indirect=False)

    def undeclare(self, declared: Declared) -> None:
        """Take back something declared. Does nothing when the session is closed."""
        try:
            self._kept.remove(declared)
        except ValueError:
            pass
        if self._session is not None:
            try:
                declared.undeclare()
            except self._zenoh.ZError as error:
                log.debug("undeclaring failed: %s", error)

    # -- sending ----------------------------------------------------------------------------------------------

    def share(self, payload: bytes | bytearray) -> object:
        """A copy of ``payload`` in a form that can be put many times without being copied each time."""
        return self._zenoh.ZBytes(payload)

    def put(self, key: str, payload: bytes, here: bool = False) -> None:
        """``here``: to subscribers of this session alone, so that nobody else can hold it up."""
        try:
            with self._sending:
                self.session.put(
                    key,
                    payload,
                    congestion_control=self._zenoh.CongestionControl.BLOCK,
                    allowed_destination=self._zenoh.Locality.SESSION_LOCAL if here else None,
                )
        except self._zenoh.ZError as error:
            raise RemoteTransportError(f"the network session does not send: {error}") from None

    def ask(
        self,
        key: str,
        payload: bytes,
        timeout: float,
        on_reply: OnJson,
        on_done: Callable[[], None],
        on_cbor: OnAnswer | None = None,
    ) -> None:
        """Query all who answer on ``key``. ``on_done`` is called once, after the last reply or after ``timeout``.

        Args:
            on_reply: gets the replies of our own protocol, which are JSON.
            on_cbor: gets those of protocol 1.0.
        """
        json = self._zenoh.Encoding.APPLICATION_JSON

        def callback(reply: zenoh.Reply) -> None:
            sample = reply.ok
            if sample is not None and sample.encoding == json:
                on_reply(str(sample.key_expr), sample.payload.to_bytes())
            elif on_cbor is not None:
                answer = self._answer_of(reply)
                if answer.is_cbor and not answer.is_error:
                    on_cbor(answer)

        self._get(key, callback, on_done, payload, timeout, self._zenoh.QueryTarget.ALL)

    def query(
        self, key: str, payload: bytes | None, timeout: float, on_answer: OnAnswer, on_done: Callable[[], None]
    ) -> None:
        """Query whoever offers ``key``, as programs of protocol 1.0 do. ``on_done`` is called once, after the last
        answer: also when there was none, because nobody offers it or whoever did is gone."""

        def callback(reply: zenoh.Reply) -> None:
            on_answer(self._answer_of(reply))

        self._get(key, callback, on_done, payload, timeout, self._zenoh.QueryTarget.BEST_MATCHING)

    def _answer_of(self, reply: zenoh.Reply) -> Answer:
        content = reply.ok or reply.err
        assert content is not None
        replier = reply.replier_id
        return Answer(
            key="" if reply.ok is None else str(reply.ok.key_expr),
            payload=content.payload.to_bytes(),
            is_error=reply.ok is None,
            is_cbor=content.encoding == self._zenoh.Encoding.APPLICATION_CBOR,
            zid="" if replier is None else str(replier.zid),
        )

    def _get(
        self,
        key: str,
        callback: Callable[[zenoh.Reply], None],
        on_done: Callable[[], None],
        payload: bytes | None,
        timeout: float,
        target: zenoh.QueryTarget,
    ) -> None:
        z = self._zenoh
        try:
            with self._sending:
                self.session.get(
                    key,
                    self._direct(lambda reply: _guarded(callback, reply), lambda: _guarded(on_done)),
                    payload=payload,
                    timeout=timeout,
                    target=target,
                    consolidation=z.ConsolidationMode.NONE,
                    congestion_control=z.CongestionControl.BLOCK,
                )
        except z.ZError as error:
            raise RemoteTransportError(f"the network session does not ask: {error}") from None

    # -- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the session.

        It is not closed under a thread that sends. Zenoh would hold the lock of a queue for which the thread waits,
        with the one thread that sends for every session of this process, until the thread has given up
        (``wait_before_close``): no other session would get a word out. Until then, the session merely says that nothing
        is left of what it has declared.
        """
        session, self._session = self._session, None
        if session is None:
            return
        closer = threading.Thread(target=self._close, args=(session,), name="heros-net-close", daemon=True)
        closer.start()
        closer.join(CLOSE_SECONDS)
        if closer.is_alive():
            log.info("A peer does not read: the network session is closed when it does, or when it is given up")
            self._immortalize(session)

    def _close(self, session: Any) -> None:
        try:
            mailboxes = [declared for declared in tuple(self._kept) if isinstance(declared, Mailbox)]
            for mailbox in mailboxes:
                mailbox.undeclare()  # whoever waits there goes on, and ends
            if self._sending:
                for declared in tuple(self._kept):
                    if declared not in mailboxes:
                        declared.undeclare()
            while self._sending:
                time.sleep(SENDING_SECONDS)
            session.close()
        except Exception as error:
            log.debug("closing the network session: %s", error)

    def abandon(self) -> None:
        """In a forked child: forget the session of the parent without calling into zenoh.

        Its threads do not exist here, so that even freeing it would wait for ever: it gets one reference too many.
        """
        _inside.clear()  # of the parent's threads
        session, self._session = self._session, None
        if session is not None:
            self._immortalize(session)

    def _immortalize(self, session: zenoh.Session) -> None:
        for kept in (session, *self._kept):
            engine.immortalize(kept)


def _guarded(callback: Callable[..., object], *arguments: object) -> None:
    thread = threading.get_ident()
    nested = thread in _inside  # sent by this process to itself, from a callback or from an own thread
    _inside.add(thread)
    try:
        callback(*arguments)
    except Exception:
        log.exception(_DEFECT)
    finally:
        if not nested:
            _inside.discard(thread)
