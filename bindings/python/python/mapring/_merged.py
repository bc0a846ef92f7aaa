"""Several rings, read in the order of their records' stamps."""

from __future__ import annotations

import time
from collections import deque
from typing import Deque, Iterator, List, Optional, Tuple

from ._mapring import MergedReader
from ._ring import _BATCH, Event, Loss, Ring, Stats, Unended


class Merged:
    """Several rings, which may have different record types, read in the order of their records' stamps. So important records can
    have a ring of their own, which a flood of others does not overwrite.

    >>> both = mapring.Merged(switches.merged("ns"), alerts.merged("ns"))
    >>> for ring, event in both:
    ...     print("alert" if ring == 1 else "switch", event)

    Each ring is one that `Ring.merged` returned, all with the same clock. Its reader moves here: the ring that was passed is
    closed then. ``ring`` is its number in the order of the arguments. A record that comes after a later stamp, of whichever ring,
    is counted by ``stats(ring).late``.
    """

    def __init__(self, *rings: Ring) -> None:
        self._reader = MergedReader([ring._reader for ring in rings])
        self._events = [ring._event for ring in rings]
        # What an iterator has read, and not given out.
        self._ahead: Deque[Tuple[int, Event]] = deque()

    def read(self, limit: int = 1024) -> List[Tuple[int, Event]]:
        """Up to ``limit`` events that are present, each with the number of its ring. Does not wait."""
        found = [self._ahead.popleft() for _ in range(min(limit, len(self._ahead)))]
        if len(found) < limit:
            found += [(ring, self._events[ring](*parts)) for ring, *parts in self._reader.read(limit - len(found))]
        return found

    def events(self, timeout: Optional[float] = None) -> Iterator[Tuple[int, Event]]:
        """Events as they come. Ends once none came for ``timeout`` seconds. Those that are read ahead of the loop count as
        delivered; the next read begins with them."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._ahead:
                yield self._ahead.popleft()
                end = None if timeout is None else time.monotonic() + timeout
                continue
            self._ahead.extend(self.read(_BATCH))
            if not self._ahead:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return
                self.wait(left)

    def __iter__(self) -> Iterator[Tuple[int, Event]]:
        return self.events()

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits until there are records, at most for ``timeout`` seconds. Returns whether there may be some. Sleeps until a program
        rings, if all rings are WAKEABLE; else looks once in a millisecond, at least. Other threads go on meanwhile."""
        return bool(self._ahead) or self._reader.wait(timeout)

    def stats(self, ring: int) -> Stats:
        """What was delivered of a ring, and what is missing."""
        return Stats(**self._reader.stats(ring))

    def losses(self, ring: int) -> List[Loss]:
        """What is missing of a ring since the last call."""
        return [Loss(*parts) for parts in self._reader.losses(ring)]

    def unended(self, ring: int) -> List[Unended]:
        """Records of a ring that programs reserved and have not ended: see `Ring.unended`."""
        return [Unended(*parts) for parts in self._reader.unended(ring)]

    def close(self) -> None:
        """Gives up the seats in the rings. Further reads raise ValueError."""
        self._ahead.clear()
        self._reader.close()

    def __enter__(self) -> Merged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Merged of {len(self._events)} rings>"
