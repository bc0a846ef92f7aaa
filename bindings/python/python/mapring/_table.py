"""Cells and latches: the latest values."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional

from ._mapring import Opened
from ._types import Layout, Record, record_class


class Snapshot(NamedTuple):
    """A value, and how often it was written: 0 means never, and then it is all zeros."""

    cpu: Optional[int]
    version: int
    value: Record


class Cells:
    """Cells or latches. ``cells[i]`` is the latest value, whole; of per-CPU cells, a dict of the values by CPU.

    Raises `Error` with the kind ``"Busy"`` if a writer was in the cell at each of many tries: it may have died there.
    """

    def __init__(self, opened: Opened, layout: Layout) -> None:
        self._opened, self._layout = opened, layout
        self._table, self._record = opened.table(), record_class(Record, layout.node)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Any:
        found = self.snapshots(index)
        if self._opened.kind != "PerCpuCells":
            return found[0].value
        return {one.cpu: one.value for one in found}

    def snapshots(self, index: int) -> List[Snapshot]:
        """The value with its version; of per-CPU cells, one for each CPU."""
        return [Snapshot(cpu, version, self._record(raw)) for cpu, version, raw in self._table.read(index)]

    def read_numpy(self) -> Any:
        """All values as a structured array; of per-CPU cells, with a row for each cell and a column for each CPU."""
        values = self._layout.array(self._table.read_bytes(self._layout.texts))
        return values.reshape(len(self), -1) if self._opened.kind == "PerCpuCells" else values

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return self._layout.dtype

    @property
    def kind(self) -> str:
        """``"Cells"``, ``"Latches"`` or ``"PerCpuCells"``."""
        return self._opened.kind

    @property
    def dropped(self) -> int:
        """How many updates programs dropped, because another program was in the cell, or for want of a cell."""
        return self._opened.dropped()

    def __repr__(self) -> str:
        return f"<{len(self)} {self.kind} of {self._layout.size} bytes, {self._layout.why}; read {self._opened.access}>"
