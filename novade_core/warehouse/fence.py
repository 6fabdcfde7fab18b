"""One fenced transaction, the same on every engine: only the latest holder of a stream can commit.

The fence is an UPDATE that must hit its row, and the transaction's first statement. So a later holder's row lock holds
an earlier one up and then refuses it, at READ COMMITTED and above; a SELECT would let both through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from novade_core.errors import LeaseLost

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Runs one statement with its parameters on a connection without transactions of its own; answers the rows it hit.
Execute = Callable[[str, Sequence[Any]], int]


@dataclass(frozen=True, kw_only=True)
class Fence:
    """The fence table of a warehouse: one row a stream, columns ``stream`` and ``fence``."""

    execute: Execute
    table: str
    mark: str = "?"  #: how the engine writes a parameter
    #: Ends the INSERT of a new stream's row, so that of two at once neither is an error: ON CONFLICT DO NOTHING.
    unless_there: str = ""
    begin: str = "BEGIN"  #: as the engine says it

    def transaction(self, stream: str, fence: int, work: Callable[[], T], before_commit: Callable[[], None]) -> T:
        """Fence, work, the lease asked once more, COMMIT; whatever is raised on the way rolls back.

        ``work`` writes rows and markers. Raises LeaseLost where a later holder has loaded, or is loading, the stream.
        """
        self.execute(
            f"INSERT INTO {self.table} (stream, fence) SELECT {self.mark}, 0 "
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.table} WHERE stream = {self.mark}) {self.unless_there}",
            [stream, stream],
        )
        self.execute(self.begin, [])
        try:
            hit = self.execute(
                f"UPDATE {self.table} SET fence = {self.mark} WHERE stream = {self.mark} AND fence <= {self.mark}",
                [fence, stream, fence],
            )
            if hit != 1:
                raise LeaseLost(f"A later holder than fence {fence} has loaded {stream}.")
            answer = work()
            before_commit()
            self.execute("COMMIT", [])
        except BaseException:
            self._roll_back()
            raise
        return answer

    def _roll_back(self) -> None:
        try:
            self.execute("ROLLBACK", [])
        except Exception as error:
            # Any engine's: a failed COMMIT has rolled back by itself; the first error is the one to report.
            _log.debug("nothing to roll back: %s", type(error).__name__)
