"""The only file that picks concrete adapters: an Environment becomes Services."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from novade_core.ledger.database import Ledger, open_ledger
from novade_core.settings import Environment

if TYPE_CHECKING:
    from novade_core.landing.base import Landing
    from novade_core.sources.base import Source
    from novade_core.sync.tools import Tools
    from novade_core.warehouse.base import Warehouse


def utc_now() -> datetime:
    """Our clock; passed in everywhere, so that tests can set it."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """Everything that an environment names. Each part is made at its first use, none at import."""

    environment: Environment

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, opened and up to date."""
        return open_ledger(self.environment.ledger_url)

    @cached_property
    def landing(self) -> Landing:
        """Where files land."""
        chosen = self.environment.landing
        if chosen.kind == "azure_blob":
            from novade_core.landing.azure_blob import AzureBlob

            return AzureBlob(chosen, scratch=self.environment.temp)
        from novade_core.landing.local_folder import LocalFolder

        return LocalFolder(chosen.path)

    @cached_property
    def warehouse(self) -> Warehouse:
        """Where tables are; opening it is a session's business."""
        if self.environment.warehouse.kind == "synapse":
            from novade_core.warehouse.synapse import SynapseWarehouse

            return SynapseWarehouse(self.environment.warehouse)
        from novade_core.warehouse.duckdb import DuckDBWarehouse

        return DuckDBWarehouse(self.environment.warehouse)

    def source(self, name: str, folder: Path) -> Source:
        """A fresh source that keeps its passing files in ``folder``; whoever asks closes it."""
        from novade_core.sources.registry import SOURCES

        return SOURCES[name](self.environment, folder)

    def tools(self) -> Tools:
        """What the sync engine works with."""
        from novade_core.sync.tools import Tools

        environment = self.environment
        return Tools(
            ledger=self.ledger,
            landing=self.landing,
            warehouse=self.warehouse,
            source=self.source,
            stream=environment.stream,
            temp=environment.temp,
            clock=utc_now,
            beat_seconds=environment.worker.beat_seconds,
            lease_seconds=environment.worker.lease_seconds,
            retry_seconds=environment.worker.retry_seconds,
            slots=environment.slots,
            fingerprint=environment.fingerprint,
            history_rows=environment.salesforce.window_rows,
        )


def build_services(environment: Environment) -> Services:
    """Services for an environment; opens nothing yet."""
    return Services(environment)
