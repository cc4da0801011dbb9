"""HEROs that deliver measured values, and the observer that collects those of many."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from numbers import Real
from typing import Any, cast

from heros.datasource.observables import ObservableProcessor
from heros.datasource.types import DatasourceReturnSet
from heros.event import event
from heros.exceptions import DecodeError
from heros.inspect import local_only
from heros.local import LocalHERO
from heros.observe import EventObserver

__all__ = ["DatasourceObserver", "LocalDatasourceHERO", "PolledLocalDatasourceHERO"]

log = logging.getLogger("heros.datasource")


class LocalDatasourceHERO(LocalHERO):
    """A HERO that delivers values when it has some: call ``observable_data`` with them.

    Args:
        observables: id to definition (see ``heros.datasource.observables``); default: the class attribute
            ``_observables``.
        args, kwargs: those of ``LocalHERO``.

    Raises:
        ValueError: a conversion, boundaries or a misspelt key that are refused.
    """

    _observables: Mapping[str, Mapping[str, Any]] = {}

    def __init__(self, *args: Any, observables: Mapping[str, Mapping[str, Any]] | None = None, **kwargs: Any) -> None:
        if observables is not None:
            self._observables = observables
        self.observable_processor = ObservableProcessor(self._observables)
        super().__init__(*args, **kwargs)

    @event
    def observable_data(self, data: Any) -> DatasourceReturnSet:
        """Values of this datasource: converted and checked as its observables say.

        ``data`` is a number, a pair (number, unit), or a list or dict of them.
        """
        return self._process_data(data)

    def _process_data(self, data: Any) -> DatasourceReturnSet:
        return self.observable_processor(DatasourceReturnSet.from_data(data))


class PolledLocalDatasourceHERO(LocalDatasourceHERO):
    """A HERO that asks itself for values, every ``interval`` seconds, on an asyncio loop.

    The values are those that the observables name (``target`` and ``index``), or what a subclass returns from its own
    ``_observable_data()``, a function or a coroutine; a plain function blocks the loop while it runs. What it raises
    is logged, and it is asked again next time. A coroutine that takes longer than ``interval`` is not started a second
    time until it is done.

    Args:
        loop: the loop to run on. It may be started later, and in any thread.
        interval: seconds, more than 0.
        args, kwargs: those of ``LocalDatasourceHERO``.

    Raises:
        TypeError: ``loop`` is no asyncio loop, or ``interval`` is no number.
        ValueError: an interval that is not more than 0.
    """

    def __init__(self, *args: Any, loop: asyncio.AbstractEventLoop, interval: float = 5, **kwargs: Any) -> None:
        if not isinstance(loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop must be an asyncio event loop, not {loop!r}; asyncio.get_running_loop() gives one")
        if not isinstance(cast(object, interval), Real):
            raise TypeError(f"interval must be a number of seconds, not {interval!r}")
        if not interval > 0:
            raise ValueError(f"interval must be more than 0 seconds, not {interval!r}")
        self._loop = loop
        self.datasource_interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._poll: asyncio.Task[None] | None = None
        super().__init__(*args, **kwargs)
        try:
            loop.call_soon_threadsafe(self._trigger_datasource)
        except BaseException:  # the loop is closed
            LocalHERO._destroy_hero(self)
            raise

    @event
    def observable_data(self, *data: Any) -> DatasourceReturnSet:
        """Values of this datasource. Called without any, it asks for them now."""
        return self._process_data(*data or (self._observable_data(),))

    def _observable_data(self) -> Any:
        """The values, in any form that ``observable_data`` takes; may be a coroutine function.

        This one reads what the observables name: the member ``target`` (default: the observable's id), called if it
        can be, and of that the item ``index``, if there is one. A target is read once for all that name it. What
        cannot be read is logged and left out.
        """
        read: dict[str, Any] = {}
        values = {}
        for name, observable in self._observables.items():
            target = observable.get("target", name)
            try:
                if target not in read:
                    member = getattr(self, target)
                    read[target] = member() if callable(member) else member
                value = read[target][observable["index"]] if "index" in observable else read[target]
            except Exception:
                log.exception("Datasource %s: observable %s cannot be read from %s", self._name, name, target)
            else:
                values[name] = (value, observable.get("raw_unit", ""))
        return values

    def _trigger_datasource(self) -> None:
        """One tick, on the loop."""
        if self._hero_destroyed:
            return
        self._timer = self._loop.call_later(self.datasource_interval, self._trigger_datasource)
        if not inspect.iscoroutinefunction(self._observable_data):
            try:
                self.observable_data()
            except Exception:
                self._log_failure()
        elif self._poll is None or self._poll.done():
            self._poll = self._loop.create_task(self._deliver(self._observable_data()))

    async def _deliver(self, pending: Awaitable[Any]) -> None:
        try:
            data = await pending
            if not self._hero_destroyed:
                self.observable_data(data)
        except Exception:
            self._log_failure()

    def _log_failure(self) -> None:
        log.exception("Datasource %s could not be polled; next try in %s s", self._name, self.datasource_interval)

    @local_only
    def _destroy_hero(self) -> None:
        """Stop polling and withdraw the HERO. May be called from any thread, and more than once."""
        super()._destroy_hero()
        try:
            self._loop.call_soon_threadsafe(self._stop_polling)
        except RuntimeError:
            pass  # the loop is closed, and polls nothing any more

    def _stop_polling(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._poll is not None:
            self._poll.cancel()


class DatasourceObserver(EventObserver):
    """Receives the values of one datasource, or of all: callbacks get ``(name, DatasourceReturnSet)``.

    Args:
        object_selector: as that of ``EventObserver``; ``"*"``, the default, selects all datasources.
        args, kwargs: the other arguments of ``EventObserver``, but for the name of the event.
    """

    def __init__(self, object_selector: str = "*", *args: Any, **kwargs: Any) -> None:
        super().__init__(object_selector, "observable_data", *args, **kwargs)

    def _handle_event(self, object_name: str, data: Any) -> None:
        try:
            values = DatasourceReturnSet.from_dicts(data)
        except DecodeError as error:
            log.warning("What datasource %s delivered is ignored: %s", object_name, error)
            return
        super()._handle_event(object_name, values)

    def register_observable_data_callback(self, func: Callable[[str, DatasourceReturnSet], object]) -> str | bool:
        """Have ``func`` called with every set of values. Returns its uid, or False if it was registered already."""
        return self.register_callback(func)
