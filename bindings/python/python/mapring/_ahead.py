"""Events that are read ahead of the loops over them."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Deque, Generic, Iterator, List, Optional, Tuple, TypeVar

#: How many events an iterator reads at once.
BATCH = 256

E = TypeVar("E")


class Ahead(Generic[E]):
    """Iterating waits for events, for ever; `events` has a timeout.

    Threads may share it: each event is given to one of them. If the handler of a signal raises, what was read comes next.
    """

    _reader: Any

    def __init__(self) -> None:
        # What was read, and not given out: parts of which events are made. Only the native module appends.
        self._ahead: Deque[Tuple[Any, ...]] = deque()

    def _event_of(self, parts: Tuple[Any, ...]) -> E:
        raise NotImplementedError

    def _ended(self) -> bool:
        return False

    def _taken(self, taken: List[Tuple[Any, ...]], limit: int) -> List[Tuple[Any, ...]]:
        """Moves up to ``limit`` parts from what was read."""
        try:
            while len(taken) < limit:
                taken.append(self._ahead.popleft())
        except IndexError:  # that is all, or other threads took the rest
            pass
        return taken

    def read(self, limit: int = 1024) -> List[E]:
        """Up to ``limit`` events that are present. Does not wait."""
        taken: List[Tuple[Any, ...]] = []
        try:
            if len(self._ahead) < limit:
                self._reader.read_ahead(self._ahead, limit - len(self._ahead))
            return [self._event_of(parts) for parts in self._taken(taken, limit)]
        except BaseException:
            self._ahead.extendleft(reversed(taken))
            raise

    def events(self, timeout: Optional[float] = None) -> Iterator[E]:
        """Events as they come. Ends once none came for ``timeout`` seconds, or if another ring replaced the only one.

        Events that are read ahead of the loop count as delivered; the next read begins with them.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                parts = self._ahead.popleft()
            except IndexError:
                if not self._reader.read_ahead(self._ahead, BATCH) and not self._ahead:
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0 or self._ended():
                        return
                    self.wait(1.0 if left is None else min(left, 1.0))
                continue
            try:
                event = self._event_of(parts)
            except BaseException:
                self._ahead.appendleft(parts)
                raise
            yield event
            end = None if timeout is None else time.monotonic() + timeout

    def __iter__(self) -> Iterator[E]:
        return self.events()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits until there are records, at most for ``timeout`` seconds. Returns whether there may be some. Sleeps until a program
        rings, if each ring is WAKEABLE; else looks once in a millisecond, at least. Other threads go on meanwhile; those that use the same
        reader get their turn within 0.1 seconds."""
        return bool(self._ahead) or self._reader.wait(timeout)
