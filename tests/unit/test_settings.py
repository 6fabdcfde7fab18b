"""Settings: what a file, a variable or a secret may say, and how a mistake is told."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from novade_core import sections, settings
from novade_core.errors import ConfigurationError, UnknownStream
from novade_core.settings import PROJECT, Environment, load_settings
from novade_core.streams import DeleteMode, SchemaPolicy

SECRET = "hunter2-hunter2"
FILE = """
{top}
[environments.test]
{environment}
[streams]
"salesforce.contact" = {{}}
"salesforce.account" = {{}}
{streams}
"""


def load(
    folder: Path,
    *,
    top: str = "",
    environment: str = "",
    streams: str = "",
    secrets: str | None = None,
    environ: Mapping[str, str] | None = None,
    name: str | None = "test",
) -> Environment:
    """Settings from a file in ``folder``, a secrets file beside it, and these variables."""
    file = folder / "novade.toml"
    file.write_text(FILE.format(top=top, environment=environment, streams=streams))
    if secrets is not None:
        (folder / ".streamlit").mkdir(exist_ok=True)
        (folder / ".streamlit" / "secrets.toml").write_text(secrets)
    return load_settings(name, file=file, environ=dict(environ or {}))


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "key", "allowed"),
    [
        (
            {"top": "colour = 1"},
            "colour is not a setting",
            "canary, default_environment, environments, first_sync, prices, schedules, streams",
        ),
        ({"environment": "colourr = 'red'"}, "environments.test.colourr is not a setting", "colour, drift, label"),
        ({"environment": "colour = 'pink'"}, "environments.test.colour", "'green', 'blue'"),
        (
            {"environment": "[environments.test.warehouse]\nmemory = 1"},
            "environments.test.warehouse.memory is not a setting",
            "auth, busy_wait_seconds, columnstore_from_rows, copy_credential, copy_secret, database",
        ),
        (
            {"environment": "[environments.test.warehouse]\nkind = 'oracle'"},
            "environments.test.warehouse.kind",
            "'duckdb'",
        ),
        (
            {"environment": "[environments.test.warehouse]\nmemory_limit_mb = 1"},
            "environments.test.warehouse.memory_limit_mb",
            "greater than or equal to 64",
        ),
        ({"environment": "[environments.test.landing]\nkind = 'ftp'"}, "environments.test.landing.kind", "'folder'"),
        (
            {"environment": "[environments.test.sandbox]\nprt = 1"},
            "environments.test.sandbox.prt",
            "azure, contacts, dir, facts, port, seed",
        ),
        (
            {"environment": "[environments.test.worker]\nmode = 'both'"},
            "environments.test.worker.mode",
            "'internal' or 'external'",
        ),
        (
            {"environment": "[environments.test.worker]\nbeat_seconds = 0"},
            "environments.test.worker.beat_seconds",
            "greater than 0",
        ),
        (
            {"environment": "[environments.test.salesforce]\ntries = 'x'"},
            "environments.test.salesforce.tries",
            "valid integer",
        ),
        (
            {"streams": '"salesforce.lead" = {objekt = "x"}'},
            "streams.salesforce.lead.objekt is not a setting",
            "object, overlap",
        ),
        (
            {"streams": '"salesforce.lead" = {schema_policy = "x"}'},
            "streams.salesforce.lead.schema_policy",
            "'evolve', 'freeze' or 'quarantine'",
        ),
        (
            {"streams": '"salesforce.lead" = {delete_mode = "x"}'},
            "streams.salesforce.lead.delete_mode",
            "'soft' or 'hard'",
        ),
        (
            {"streams": '"salesforce.lead" = {transport = "x"}'},
            "streams.salesforce.lead.transport",
            "'auto', 'rest', 'bulk', 'export' or 'files'",
        ),
        ({"streams": '"gong.lead" = {}'}, "gong.lead", "known sources: salesforce"),
        ({"streams": '"drift.lead" = {}'}, "drift.lead", "drift has no stream lead"),
        ({"streams": '"salesforce.Lead" = {}'}, "salesforce.Lead", "in lower case"),
        ({"streams": '"salesforce" = {}'}, "'salesforce'", "source.name"),
        ({"streams": '"salesforce.a\'b" = {}'}, "a'b", "source.name"),
        ({"name": "azure"}, "no environment 'azure'", "known: test"),
        (
            {"secrets": "[salesforce]\npassword = 'x'"},
            "password is not a setting",
            "consumer_key, consumer_secret, domain",
        ),
        ({"secrets": "salesforce = 'x'"}, "salesforce is not a section", "secrets.toml"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_is_allowed(tmp_path, given, key, allowed):
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, **given)
    assert key in refused.value.message
    assert allowed in refused.value.message
    assert str(tmp_path) in refused.value.message
    assert refused.value.hint


def test_several_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, top="one = 1", environment="two = 2")
    assert "one is not a setting" in refused.value.message
    assert "environments.test.two is not a setting" in refused.value.message


def test_a_missing_section_is_named(tmp_path):
    (tmp_path / "novade.toml").write_text("[environments.test]\n")
    with pytest.raises(ConfigurationError, match=r"novade\.toml: streams: field required"):
        load_settings("test", file=tmp_path / "novade.toml", environ={})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.toml does not exist") as refused:
        load_settings(file=tmp_path / "absent.toml", environ={})
    assert "NOVADE_CONFIG" in refused.value.hint


@pytest.mark.parametrize("content", [b"x = [", b"\xff\xfe = 1", b"a = 1\na = 2"], ids=["cut", "not utf-8", "twice"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "novade.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"novade\.toml cannot be read"):
        load_settings(file=tmp_path / "novade.toml", environ={})


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(file=tmp_path, environ={})


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("salesforce.contacts", "salesforce.contact"),
        ("salesforce.acount", "salesforce.account"),
        ("contact", "salesforce.contact"),
    ],
)
def test_an_unknown_stream_suggests_near_names(tmp_path, wrong, near):
    with pytest.raises(UnknownStream) as refused:
        load(tmp_path).stream(wrong)
    assert repr(wrong) in refused.value.message
    assert near in refused.value.message
    assert "python -m jobs streams" in refused.value.hint


def test_a_name_that_is_near_to_nothing_lists_all(tmp_path):
    with pytest.raises(UnknownStream, match=r"known: salesforce\.contact, salesforce\.account\."):
        load(tmp_path).stream("zzz")


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"secrets": f"[salesforce]\nconsumer_key = ['{SECRET}']"},
        {"secrets": f"[salesforce]\nprivate_key = {{ value = '{SECRET}' }}"},
        {"secrets": f"[salesforce]\npassword = '{SECRET}'"},
        {"secrets": f"salesforce = '{SECRET}'"},
        {"secrets": f"[salesforce]\nconsumer_key = '{SECRET}"},
        {"environ": {"NOVADE_SALESFORCE_TOKEN": SECRET}},
        {"environ": {"NOVADE_SALESFORCE_TRIES": SECRET}},
        {"environment": f"[environments.test.salesforce]\nconsumer_key = ['{SECRET}']"},
        {"environment": f"[environments.test.salesforce]\npassword = '{SECRET}'"},
    ],
)
def test_no_mistake_shows_a_secret(tmp_path, given):
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, **given)
    assert SECRET not in f"{refused.value.message} {refused.value.hint} {refused.value!r}"


def test_secrets_are_masked_wherever_settings_are_shown(tmp_path):
    names = ("consumer_key", "consumer_secret", "private_key")
    environment = load(tmp_path, environ={f"NOVADE_SALESFORCE_{n.upper()}": SECRET for n in names})
    assert SECRET not in f"{environment!r} {environment} {environment.salesforce.model_dump()}"
    assert SECRET not in environment.model_dump_json()
    assert environment.salesforce.consumer_key == SecretStr(SECRET)


def test_the_process_environment_wins_over_files_and_later_files_over_earlier(tmp_path):
    (tmp_path / "first.toml").write_text(
        "[salesforce]\nusername = 'first'\ndomain = 'first.my'\napi_version = '60.0'\n"
    )
    environment = load(
        tmp_path,
        environment="secrets_files = ['first.toml', 'absent.toml']\n"
        "[environments.test.salesforce]\nusername = 'file'\ntries = 2",
        secrets="[salesforce]\nusername = 'second'\ndomain = 'second.my'\n[other]\nx = 1\n",
        environ={"NOVADE_SALESFORCE_USERNAME": "variable", "NOVADE_SALESFORCE_POLL_SECONDS": "0.5", "UNRELATED": "x"},
    )
    found = environment.salesforce
    assert (found.username, found.domain, found.api_version, found.tries) == ("variable", "second.my", "60.0", 2)
    assert found.poll_seconds == 0.5


def test_the_process_environment_is_not_read_where_another_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("NOVADE_SALESFORCE_USERNAME", "leaked")
    monkeypatch.setenv("NOVADE_ENVIRONMENT", "leaked")
    assert load(tmp_path).salesforce.username is None


def test_the_process_environment_is_read_where_none_is_given(tmp_path, monkeypatch):
    (tmp_path / "other.toml").write_text(FILE.format(top="", environment="label = 'Mine'", streams=""))
    monkeypatch.setenv("NOVADE_CONFIG", str(tmp_path / "other.toml"))
    monkeypatch.setenv("NOVADE_ENVIRONMENT", "test")
    monkeypatch.setenv("NOVADE_HOME", str(tmp_path / "home"))
    environment = load_settings()
    assert (environment.label, environment.home) == ("Mine", tmp_path / "home")


# --- what is meant --------------------------------------------------------------------------------


def test_relative_paths_start_at_home(tmp_path):
    home = tmp_path / "elsewhere"
    environment = load(
        tmp_path,
        environment="secrets_files = ['s.toml']\n[environments.test.sandbox]\n"
        "[environments.test.salesforce]\nca_file = 'ca.pem'\n[environments.test.drift]\nca_file = 'ca.pem'",
        environ={"NOVADE_HOME": str(home)},
    )
    assert environment.home == home
    assert environment.landing.path == home / "var/landing"
    assert environment.warehouse.path == home / "var/warehouse.duckdb"
    assert environment.ledger_url == f"sqlite:///{home}/var/ledger.sqlite"
    assert environment.temp == home / "var/tmp/test"
    assert environment.sandbox is not None
    assert environment.sandbox.dir == home / "var/sandbox"
    assert environment.secrets_files == (home / "s.toml", home / ".streamlit/secrets.toml")
    assert environment.salesforce.ca_file == environment.drift.ca_file == home / "ca.pem"


def test_home_is_the_folder_of_the_file_by_default(tmp_path):
    assert load(tmp_path).home == tmp_path


@pytest.mark.parametrize("url", ["sqlite:////absolute/ledger.sqlite", "postgresql://someone@host/novade"])
def test_absolute_addresses_stay_as_they_are(tmp_path, url):
    sections = f"[environments.test.ledger]\nurl = '{url}'\n[environments.test.landing]\npath = '/absolute/landing'"
    environment = load(tmp_path, environment=sections)
    assert environment.ledger_url == url
    assert environment.landing.path == Path("/absolute/landing")


def test_the_environment_is_the_one_asked_for_then_the_variable_then_the_files_default(tmp_path):
    more = {"top": "default_environment = 'test'", "environment": "[environments.other]"}
    assert load(tmp_path, name=None, **more).name == "test"
    assert load(tmp_path, name=None, environ={"NOVADE_ENVIRONMENT": "other"}, **more).name == "other"
    assert load(tmp_path, name="test", environ={"NOVADE_ENVIRONMENT": "other"}, **more).name == "test"


def test_a_stream_takes_the_sources_defaults_and_what_the_file_says(tmp_path):
    streams = (
        '"salesforce.site_visit" = {object = "Site_Visit__c", label = "Visits", delete_mode = "hard", '
        'schema_policy = "freeze", fields = ["A__c"], reject_limit = 0}\n"salesforce.user" = {}\n'
        '"salesforce.order_item" = {}'
    )
    environment = load(tmp_path, streams=streams)
    visit, contact = environment.stream("salesforce.site_visit"), environment.stream("salesforce.contact")
    assert (visit.object_name, visit.label, visit.fields, visit.reject_limit) == (
        "Site_Visit__c",
        "Visits",
        ("A__c",),
        0,
    )
    assert (visit.delete_mode, visit.schema_policy) == (DeleteMode.HARD, SchemaPolicy.FREEZE)
    assert (contact.object_name, contact.label, contact.primary_key) == ("Contact", "Salesforce Contact", ("Id",))
    assert (contact.cursor_field, contact.created_field, contact.deleted_field) == (
        "SystemModstamp",
        "CreatedDate",
        "IsDeleted",
    )
    assert environment.stream("salesforce.user").deleted_field is None
    assert environment.stream("salesforce.order_item").object_name == "OrderItem"


def test_an_environment_never_changes(tmp_path):
    environment = load(tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        environment.name = "other"  # type: ignore[misc]


def test_the_projects_own_file_is_valid():
    environment = load_settings(file=PROJECT / "novade.toml", environ={})
    assert environment.name == "local"
    assert "salesforce.contact" in [s.id for s in environment.streams]
    assert environment.salesforce.consumer_key is None or (PROJECT / "var").exists()


def models() -> list[tuple[str, ast.ClassDef]]:
    tree = ast.parse(Path(sections.__file__).read_text(encoding="utf-8"))
    return [(n.name, n) for n in tree.body if isinstance(n, ast.ClassDef) and n.name.endswith("Settings")]


@pytest.mark.parametrize("name", [name for name, _ in models()])
def test_every_setting_says_in_a_comment_what_it_is_for(name):
    lines = Path(sections.__file__).read_text(encoding="utf-8").splitlines()
    model: Any = getattr(settings, name)
    (definition,) = (node for n, node in models() if n == name)
    fields = [n for n in definition.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    assert {n.target.id for n in fields if isinstance(n.target, ast.Name)} == set(model.model_fields)
    assert issubclass(model, BaseModel)
    silent = {
        n.target.id
        for n in fields
        if isinstance(n.target, ast.Name) and "#: " not in lines[(n.end_lineno or n.lineno) - 1]
    }
    # Sections are described where they are defined.
    whole = {"landing", "warehouse", "pool", "ledger", "worker", "sandbox", "salesforce", "drift", "api"}
    assert silent <= (whole if name == "EnvironmentSettings" else set())


@pytest.mark.parametrize(
    "url", ["novade.example.org", "ftp://novade.example.org", "https://a b", "https://a\r\nX-Evil: 1"]
)
def test_an_address_that_no_answer_could_carry_is_refused(url):
    with pytest.raises(ConfigurationError, match="api"):
        load_settings(environ={"NOVADE_API_URL": url})


# --- landing in Azure -----------------------------------------------------------------------------

SYNAPSE = "[environments.test.warehouse]\nkind = 'synapse'\n"
BLOB = SYNAPSE + "[environments.test.landing]\nkind = 'azure_blob'\naccount = 'acme'\n"


@pytest.mark.parametrize(
    ("more", "said", "hint"),
    [
        ("credential = 'key'", "credential is key, but there is no key", "NOVADE_LANDING_KEY"),
        ("credential = 'sas'", "credential is sas, but there is no sas", "NOVADE_LANDING_SAS"),
        ("credential = 'connection_string'", "but there is no connection_string", "NOVADE_LANDING_CONNECTION_STRING"),
        ("endpoint = 'http://acme.example'", "endpoint must be https", "Correct"),
        ("endpoint = 'ftp://127.0.0.1'", "endpoint must be https", "Correct"),
    ],
)
def test_a_landing_in_azure_that_cannot_work_is_refused_at_start(tmp_path, more, said, hint):
    with pytest.raises(ConfigurationError, match=said) as refused:
        load(tmp_path, environment=BLOB + more)
    assert "(environment test, landing)" in refused.value.message
    assert hint in refused.value.hint


def test_a_landing_in_azure_needs_an_account_except_with_a_connection_string(tmp_path):
    environment = SYNAPSE + "[environments.test.landing]\nkind = 'azure_blob'\n"
    with pytest.raises(ConfigurationError, match="account is missing"):
        load(tmp_path, environment=environment)
    given = {"NOVADE_LANDING_CONNECTION_STRING": "AccountName=a;AccountKey=b"}
    landing = load(tmp_path, environment=environment + "credential = 'connection_string'", environ=given).landing
    assert landing.account is None


def test_the_landings_secrets_come_from_a_secrets_file_then_the_variables_and_are_masked(tmp_path):
    secrets = "[landing]\nsas = 'from-file'\nkey = 'the-key'"
    sas = BLOB + "credential = 'sas'"
    landing = load(tmp_path, environment=sas, secrets=secrets).landing
    assert landing.sas is not None
    assert landing.sas.get_secret_value() == "from-file"
    landing = load(tmp_path, environment=sas, secrets=secrets, environ={"NOVADE_LANDING_SAS": "from-variable"}).landing
    assert landing.sas is not None
    assert landing.sas.get_secret_value() == "from-variable"
    assert "from-" not in repr(landing)
    assert "the-key" not in repr(landing)


def test_plain_http_is_for_this_machine_alone(tmp_path):
    endpoint = "endpoint = 'http://127.0.0.1:10000/acme'\nca_file = 'ca.pem'"
    landing = load(tmp_path, environment=BLOB + endpoint).landing
    assert landing.endpoint == "http://127.0.0.1:10000/acme"
    assert landing.ca_file == tmp_path / "ca.pem"
    assert landing.credential == "managed_identity"


def test_a_stand_in_writes_the_landings_key_later(tmp_path):
    sandbox = "credential = 'key'\n[environments.test.sandbox]\nazure = true"
    assert load(tmp_path, environment=BLOB + sandbox).landing.key is None
    with pytest.raises(ConfigurationError, match="there is no key"):
        load(tmp_path, environment=BLOB + "credential = 'key'\n[environments.test.sandbox]")


@pytest.mark.parametrize(
    ("environment", "said", "hint"),
    [
        ("[environments.test.landing]\nkind = 'azure_blob'\naccount = 'acme'",
         "landing is azure_blob, but the warehouse is duckdb", 'landing.kind = "folder"'),
        (SYNAPSE, "landing is folder, but the warehouse is synapse", 'landing.kind = "azure_blob"'),
    ],
)  # fmt: skip
def test_a_warehouse_that_cannot_read_the_landing_is_refused(tmp_path, environment, said, hint):
    with pytest.raises(ConfigurationError, match=said) as refused:
        load(tmp_path, environment=environment)
    assert "(environment test, landing.kind)" in refused.value.message
    assert hint in refused.value.hint


def test_the_pools_certificate_authority_starts_at_home(tmp_path):
    pool = load(tmp_path, environment="[environments.test.pool]\nca_file = 'var/ca.pem'").pool
    assert pool.ca_file == tmp_path / "var/ca.pem"


def test_the_environments_of_the_projects_file_share_nothing_on_disk():
    local, stack = (load_settings(name, environ={}) for name in ("local", "stack"))
    assert stack.sandbox is not None
    assert local.sandbox is not None
    assert (stack.landing.kind, stack.warehouse.kind, stack.sandbox.azure) == ("azure_blob", "synapse", True)
    assert (stack.sandbox.dir, stack.sandbox.port) != (local.sandbox.dir, local.sandbox.port)
    assert stack.ledger_url != local.ledger_url
    assert stack.temp != local.temp
    assert not stack.temp.is_relative_to(local.temp)


def test_a_folder_asks_for_no_secret(tmp_path):
    assert load(tmp_path, environment="[environments.test.landing]\ncredential = 'key'").landing.kind == "folder"
