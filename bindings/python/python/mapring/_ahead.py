"""Events that are read ahead of the loops over them."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Deque, Generic, Iterator, List, Optional, TypeVar

#: How many events an iterator reads at once.
BATCH = 256

E = TypeVar("E")


class Ahead(Generic[E]):
    """Iterating waits for events, for ever; `events` has a timeout."""

    _reader: Any

    def __init__(self) -> None:
        # What an iterator has read, and not given out.
        self._ahead: Deque[E] = deque()

    def _read(self, limit: int) -> List[E]:
        raise NotImplementedError

    def _ended(self) -> bool:
        return False

    def read(self, limit: int = 1024) -> List[E]:
        """Up to ``limit`` events that are present. Does not wait."""
        found = [self._ahead.popleft() for _ in range(min(limit, len(self._ahead)))]
        if len(found) < limit:
            found += self._read(limit - len(found))
        return found

    def events(self, timeout: Optional[float] = None) -> Iterator[E]:
        """Events as they come. Ends once none came for ``timeout`` seconds, or if another ring replaced the only one.

        Events that are read ahead of the loop count as delivered; the next read begins with them.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._ahead:
                yield self._ahead.popleft()
                end = None if timeout is None else time.monotonic() + timeout
                continue
            self._ahead.extend(self.read(BATCH))
            if not self._ahead:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0 or self._ended():
                    return
                self.wait(1.0 if left is None else min(left, 1.0))

    def __iter__(self) -> Iterator[E]:
        return self.events()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits until there are records, at most for ``timeout`` seconds. Returns whether there may be some. Sleeps until a program
        rings, if each ring is WAKEABLE; else looks once in a millisecond, at least. Other threads go on meanwhile."""
        return bool(self._ahead) or self._reader.wait(timeout)
