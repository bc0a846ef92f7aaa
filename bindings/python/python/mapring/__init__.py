"""Reads mapring's regions: memory that BPF programs write, and any number of processes read without a system call.

>>> import mapring
>>> for event in mapring.open("/sys/fs/bpf/switches"):
...     print(event.ns, event.comm)

The types come from the map's BTF, which the kernel shows to processes with CAP_SYS_ADMIN. Others pass the ``dtype`` of the records.
"""

from __future__ import annotations

import os
from typing import Any, Optional, Union

from ._commands import Commands
from ._globals import Globals
from ._mapring import ABI, Counters, Error, Gauges, Histogram, Histograms, Section, TopKeys, forked, open_place
from ._merged import Merged
from ._ring import Event, Liveness, Loss, Ring, Stats, Unended
from ._table import Cells, Snapshot
from ._types import Layout, Record, to_arrow

__all__ = [
    "ABI", "Cells", "Commands", "Counters", "Error", "Event", "Gauges", "Globals", "Histogram", "Histograms", "Liveness", "Loss", "Merged", "Record",
    "Ring", "Snapshot", "Stats", "TopKeys", "Unended", "open", "to_arrow",
]

os.register_at_fork(after_in_child=forked)

_TABLES = ("Cells", "Latches", "PerCpuCells")


def open(
    source: Union[str, "os.PathLike[str]", int, Any, None] = None,
    *,
    id: Optional[int] = None,
    dtype: Any = None,
    start: str = "oldest",
) -> Any:
    """Opens a region for reading. Makes system calls; reading a mapped region makes none.

    ``source`` is the path of a pin (of a ring with PER_CPU_MAPS: the directory of its pins) or of a memory file
    (``/proc/PID/fd/N``), or a file descriptor, or an object with ``fileno()``. Descriptors are duplicated. ``id`` is the id of a
    map, and needs CAP_SYS_ADMIN.

    Returns a `Ring`, `Cells` (also for latches), `Counters`, `Histograms`, `Gauges`, `TopKeys`, `Commands`, or `Globals` (for the map
    of a section such as .bss): what is there.

    ``dtype`` is the type of the records, as numpy takes it, where BTF does not tell it. ``start`` is where a ring's reader begins:
    ``"oldest"``, ``"now"``, or ``"first"``, which counts the records that are overwritten already as lost.

    Raises `mapring.Error` with what was found and the remedy: nothing there, no permission, something else, another version of the
    layout than `ABI`, or memory that contradicts itself.
    """
    if id is not None:
        if source is not None:
            raise TypeError("name a source or an id")
        opened = open_place(id=id)
    elif isinstance(source, (str, bytes, os.PathLike)):
        opened = open_place(path=os.fspath(source) if not isinstance(source, bytes) else os.fsdecode(source))
    elif isinstance(source, int):
        opened = open_place(fd=source)
    elif hasattr(source, "fileno"):
        opened = open_place(fd=source.fileno())  # type: ignore[union-attr]
    else:
        raise TypeError(f"a path, a file descriptor or an id is needed, not {source!r}")
    if isinstance(opened, Section):
        return Globals(opened)
    kind, what = opened.kind, f"map id {id}" if id is not None else f"fd {source}" if isinstance(source, int) else str(source)
    if kind == "Ring":
        return Ring(opened, Layout.of(opened, dtype, what), start)
    if kind in _TABLES:
        return Cells(opened, Layout.of(opened, dtype, what))
    if kind in ("Counters", "PerCpuCounters"):
        return opened.counters()
    if kind == "Histograms":
        return opened.histograms()
    if kind == "Gauges":
        return opened.gauges()
    if kind == "TopKeys":
        return opened.top_keys()
    return Commands(opened.commands(), Layout.of(opened, dtype, what), opened.capacity)
