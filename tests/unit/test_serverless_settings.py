"""A warehouse of views: what it needs, and combinations that could never work."""

from __future__ import annotations

from pathlib import Path

import pytest

from novade_core.errors import ConfigurationError
from novade_core.settings import Environment, load_settings
from novade_core.warehouse.external_views import Stamp
from novade_core.warehouse.published import PublishedWarehouse
from novade_core.wiring import build_services

BLOB = '[environments.test.landing]\nkind = "azure_blob"\naccount = "acme123"\n'
VIEWS = '[environments.test.serverless]\nserver = "acme-ondemand.sql.azuresynapse.net"\ndatabase = "novade"\n'
POOL = (
    '[environments.test.pool]\nkind = "workspace"\nsubscription = "s"\nresource_group = "r"\nworkspace = "w"\n'
    'name = "novade"\n'
)


def load(folder: Path, sections: str) -> Environment:
    """An environment ``test`` whose warehouse is serverless."""
    text = f'default_environment = "test"\n[environments.test.warehouse]\nkind = "serverless"\n{sections}\n'
    (folder / "novade.toml").write_text(text + '[streams]\n"salesforce.contact" = {}\n')
    return load_settings(file=folder / "novade.toml", environ={})


def test_a_landing_in_azure_and_a_serverless_pool_are_enough(tmp_path: Path) -> None:
    services = build_services(load(tmp_path, BLOB + VIEWS))
    assert isinstance(services.warehouse, PublishedWarehouse)
    assert services.warehouse.usage() == {}
    desk = services.views()
    assert desk is not None
    assert desk.loaded_into
    services.ledger.close()


@pytest.mark.parametrize(
    ("sections", "key", "said", "hint"),
    [
        (VIEWS, "landing.kind", "whose views read from a storage account alone", 'landing.kind = "azure_blob"'),
        (BLOB, "warehouse.kind", "the section serverless is missing", "[environments.test.serverless]"),
        (
            BLOB + VIEWS.replace('database = "novade"\n', ""),
            "warehouse.kind",
            "but serverless.database is missing",
            "Name the endpoint and its database",
        ),
        (BLOB + VIEWS + POOL, "pool", "the warehouse is serverless, which has no pool", "Remove the section pool"),
    ],
)
def test_what_could_never_work_is_refused_with_key_reason_and_next_step(
    tmp_path: Path, sections: str, key: str, said: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, sections)
    assert f"(environment test, {key})" in refused.value.message
    assert said in refused.value.message
    assert hint in refused.value.hint


def test_a_stamp_writes_numbers_in_ranges() -> None:
    seqs = (1, 2, 3, 7, 9, 10)
    assert Stamp(fence=4, reloaded=1, seqs=seqs).sql == "/* novade shows fence 4 reloaded 1 manifests 1-3,7,9-10 */\n"
    assert "manifests  */" in Stamp(fence=4, reloaded=1, seqs=()).sql
