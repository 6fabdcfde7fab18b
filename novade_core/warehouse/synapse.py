"""The warehouse on Azure: a dedicated SQL pool of Synapse, through SQLAlchemy, pyodbc and an ODBC driver.

Says only how a pool is opened and what it cannot do; SQL is in ``synapse_sql`` and ``synapse_load_sql``, the order of
statements in ``synapse_session``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from novade_core.settings import WarehouseSettings
from novade_core.warehouse.base import Capabilities
from novade_core.warehouse.synapse_link import Refused
from novade_core.warehouse.synapse_session import SynapseSession

CAPABILITIES = Capabilities(
    engine="Synapse",
    transactional_ddl=False,  # https://learn.microsoft.com/azure/synapse-analytics/sql-data-warehouse/
    # sql-data-warehouse-develop-transactions: no DDL in a transaction
    enforces_keys=False,  # …/sql-data-warehouse-table-constraints: NOT ENFORCED only
    concurrent_processes=True,
    max_rows_per_load=1_000_000,  # at 1 KB a row 1 GB, where a DW100c takes 60 GB in one transaction
)


class SynapseWarehouse:
    """A dedicated pool; a session is a connection of its own."""

    capabilities = CAPABILITIES

    def __init__(self, settings: WarehouseSettings) -> None:
        self.settings = settings

    @contextlib.contextmanager
    def session(self) -> Iterator[SynapseSession]:
        """Connect, trying again where the pool is moving; raises WarehouseBusy where it is paused."""
        session = SynapseSession(self.settings)
        try:
            session.open()
            yield session
        except Refused as refused:
            raise refused.told() from refused
        finally:
            session.close()

    def usage(self) -> Mapping[str, int]:
        """See Warehouse.usage: a pool is billed by the time that it is online."""
        return {}
