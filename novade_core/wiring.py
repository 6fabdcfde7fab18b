"""The only file that picks concrete adapters: an Environment becomes Services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from novade_core.ledger.database import Ledger, open_ledger
from novade_core.settings import Environment

if TYPE_CHECKING:
    from novade_core.landing.base import Landing
    from novade_core.ledger.leases import Watcher
    from novade_core.sources.base import Source
    from novade_core.sync.load_window import LoadWindows
    from novade_core.sync.publish import Desk
    from novade_core.sync.tools import Tools
    from novade_core.warehouse.base import Warehouse
    from novade_core.warehouse.external_views import Stamp


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
        if self.environment.warehouse.kind == "serverless":
            return self._published()
        from novade_core.warehouse.duckdb import DuckDBWarehouse

        return DuckDBWarehouse(self.environment.warehouse)

    def _published(self) -> Warehouse:
        from novade_core.ledger import published_views
        from novade_core.warehouse.published import PublishedWarehouse, Shown
        from novade_core.warehouse.serverless import Serverless

        settings, landing = self.environment.serverless, self.environment.landing
        assert settings is not None  # the settings refuse this kind without the section

        def book(stream: str, stamp: Stamp) -> Shown:
            with self.ledger.read() as connection:
                held = published_views.held(connection, stream, seqs=stamp.seqs, reloaded=stamp.reloaded)
            return Shown(manifests=held.manifests, reloaded=held.reloaded, bytes=held.bytes)

        return PublishedWarehouse(lambda: Serverless(settings, landing), book)

    def source(self, name: str, folder: Path) -> Source:
        """A fresh source that keeps its passing files in ``folder``; whoever asks closes it."""
        if name == "tracking_plan":
            from novade_core.ledger.plan_versions import PlanMemory
            from novade_core.sources.tracking_plan.source import TrackingPlans

            return TrackingPlans(self.environment.tracking_plan, folder, PlanMemory(self.ledger))
        from novade_core.sources.registry import SOURCES

        return SOURCES[name](self.environment, folder)

    def views(self) -> Desk | None:
        """What publishes streams as views on the serverless pool; None in an environment without one.

        Raises ConfigurationError where the landing is none that such a pool reads.
        """
        settings = self.environment.serverless
        if settings is None:
            return None
        from novade_core.sync.publish import Desk
        from novade_core.warehouse.serverless import Serverless

        loaded_into = self.environment.warehouse.kind == "serverless"
        return Desk(self.ledger, Serverless(settings, self.environment.landing), utc_now, loaded_into=loaded_into)

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
            admits_loads=self._admits_loads,
            has_windows=environment.pool.kind != "none",
        )

    def load_windows(self, watcher: Watcher, *, clock: Callable[[], datetime] = utc_now) -> LoadWindows | None:
        """What resumes the pool for loads and pauses it again; None where nobody here does.

        ``watcher`` judges other workers' leases; whoever gives it notes our writes in it.
        """
        environment = self.environment
        if environment.pool.kind == "none":
            return None
        from novade_core.sync.load_window import Hands, LoadWindows, Rules
        from novade_core.warehouse import synapse_watch
        from novade_core.warehouse.pool import ArmPool

        limits, warehouse = environment.pool, environment.warehouse
        return LoadWindows(
            self.ledger,
            Hands(
                control=ArmPool(limits),
                others=lambda: synapse_watch.look_for_others(warehouse),
                work=lambda: synapse_watch.copy_work(warehouse),
                ask=self._ask_to_load,
                streams=frozenset(stream.id for stream in environment.streams),
            ),
            Rules(
                gather=timedelta(minutes=limits.gather_minutes),
                idle=timedelta(minutes=limits.idle_minutes),
                longest=timedelta(minutes=limits.max_minutes),
                wait=timedelta(minutes=limits.wait_minutes),
            ),
            watcher,
            clock=clock,
        )

    def _admits_loads(self) -> bool:
        if self.environment.pool.kind == "none":
            return True
        from novade_core.ledger import windows

        with self.ledger.read() as connection:
            return windows.admits_loads(connection)

    def _ask_to_load(self, stream: str, now: datetime) -> None:
        """A run that goes on with what landed: a full reload where one is unfinished, else an incremental one."""
        from novade_core.ledger import plans, windows
        from novade_core.ledger.requests import ask_for_run
        from novade_core.streams import RunKind

        with self.ledger.read() as connection:
            left = plans.unfinished(connection, stream)
        kind = RunKind.FULL if left and left[0].kind == RunKind.FULL else RunKind.INCREMENTAL
        known = self.environment.stream(stream)
        ask_for_run(self.ledger, stream=known, kind=kind, who="novade", origin=windows.ORIGIN, now=now)


def build_services(environment: Environment) -> Services:
    """Services for an environment; opens nothing yet."""
    return Services(environment)
