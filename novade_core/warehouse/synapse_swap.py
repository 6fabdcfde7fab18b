"""A new table takes the place of the old one on a dedicated SQL pool, which renames outside of any transaction.

Two connections: one holds the stream's fence row in an open transaction, with markers, tombstones and a row that says
committed, and commits last; the other writes a journal, fills the new table and renames. So a swap counts as done
exactly where its markers are in. Whoever comes next holds the fence, closes what is open (a rename of a worker that
wakes late then does nothing), and finishes or undoes.

===========================  ===================  ==================================
there are                    not committed        committed
===========================  ===================  ==================================
table, new                   drop new             –
old, new                     old -> table, drop   –
table, old                   table -> new, then   drop old
                             as above
table alone, none before     drop table           –
===========================  ===================  ==================================
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from novade_core.errors import RetryableError
from novade_core.warehouse import synapse_sql as sql
from novade_core.warehouse.fence import Fence
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import Statement, Swap, Table

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Swapper:
    """Swaps of one stream's table by one holder."""

    link: Link  #: in autocommit
    guard: Link  #: holds the fence
    fence: Fence  #: on the guard
    table: Table
    stream: str
    mine: int  #: our fence
    run_id: int

    def swap(
        self, *, fill: Callable[[Table], Statement], remember: Callable[[], None], ask: Callable[[], None]
    ) -> None:
        """Put the table that ``fill`` makes in the place of the old one.

        ``remember`` writes markers and tombstones on the guard, ``ask`` asks for the lease: after it come the renames
        and the COMMIT. Raises LeaseLost where a later holder has the stream.
        """
        digest = hashlib.sha256(self.stream.encode()).hexdigest()[:8]
        name = f"{digest}_f{self.mine}_r{self.run_id}"
        swap = Swap(name, self.mine, "open", False, f"_novade_new_{name}", f"_novade_old_{name}")

        def work() -> None:
            self._mend()
            journal = swap._replace(replaces=self.table.name in self._names())
            self.link.hit(sql.open_swap(self.stream, journal))
            self.link.hit(fill(self._beside(swap.new_name)))
            remember()
            self.guard.hit(sql.commit_swap(self.stream, name))

        def last() -> None:
            ask()
            if self.table.name in self._names():
                self.link.hit(sql.rename_in_swap(self.table, swap.old_name, name))
            self.link.hit(sql.rename_in_swap(self._beside(swap.new_name), self.table.name, name))
            names = self._names()
            if self.table.name not in names or swap.new_name in names:
                raise RetryableError(f"The new table of {self.stream} did not take its place.", origin="warehouse")

        try:
            self.fence.transaction(self.stream, self.mine, work, last)
        except Exception:
            with contextlib.suppress(Refused):  # the next load of the stream repairs what we cannot
                self.repair()
            raise
        try:
            self._finish(swap)
        except Refused as refused:
            _log.warning("The replaced table stays until the next load: %s", refused)

    def repair(self) -> None:
        """Finish or undo every swap of the stream that was left halfway; costs one query where there is none."""
        if self.link.rows(sql.swaps(self.stream)):
            self.guard.close()  # rolls back what it may still hold of our own
            self.fence.transaction(self.stream, self.mine, self._mend, lambda: None)

    def _mend(self) -> None:
        """Inside the fence: every earlier swap's transaction has ended by now, one way or the other."""
        self.link.hit(sql.close_swaps(self.stream))
        for row in self.link.rows(sql.swaps(self.stream)):
            swap = Swap(*row)
            _log.warning("A swap of %s was left halfway and is put right.", self.stream)
            if swap.committed:
                self._finish(swap)
            else:
                self._undo(swap)

    def _finish(self, swap: Swap) -> None:
        self.link.hit(sql.drop_table(self._beside(swap.old_name)))
        self.link.hit(sql.forget_swap(self.stream, swap.swap))

    def _undo(self, swap: Swap) -> None:
        """What stands under the table's name beside ``old`` is the new table, or an empty one that a load made."""
        names = self._names()
        ours = swap.old_name in names or not (swap.replaces or swap.new_name in names)
        if self.table.name in names and ours:
            self.link.hit(sql.drop_table(self.table))
        if swap.old_name in names:
            self.link.hit(sql.rename(self._beside(swap.old_name), self.table.name))
        self.link.hit(sql.drop_table(self._beside(swap.new_name)))
        self.link.hit(sql.forget_swap(self.stream, swap.swap))

    def _beside(self, name: str) -> Table:
        return Table(self.table.schema, name)

    def _names(self) -> set[str]:
        return {name for _, name in self.link.rows(sql.tables(self.table.schema))}
