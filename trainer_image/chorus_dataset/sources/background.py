"""Run an iterator in a thread of its own, so that a limit of time and a signal to stop hold while it blocks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.1
_CLOSE_SECONDS = 0.5
_QUEUED = 2


def in_background(items: Generator[T, None, None], *, check: Callable[[], None]) -> Generator[T, None, None]:
    """Yield what a generator yields that runs in a thread of its own, and raise what it raises.

    `check` is called for each item, and about ten times a second while none comes. It may raise: then, and when the
    caller takes no more items, the generator is closed in its thread as soon as the call in which it blocks returns.
    Nobody waits longer than half a second for that; the thread does not keep the process alive. At most two items wait
    for the caller.
    """
    waiting: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(_QUEUED)
    abandoned = threading.Event()

    def put(found: list[T], error: BaseException | None = None) -> bool:
        while not abandoned.is_set():
            try:
                waiting.put((found, error), timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        failed: BaseException | None = None
        try:
            with closing(items):
                for item in items:
                    if not put([item]):
                        return
        except BaseException as error:
            failed = error
        put([], failed)

    thread = threading.Thread(target=work, name="in-background", daemon=True)
    thread.start()
    try:
        while True:
            check()
            try:
                found, error = waiting.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if not found:
                return
            check()
            yield found[0]
    finally:
        abandoned.set()
        thread.join(_CLOSE_SECONDS)
