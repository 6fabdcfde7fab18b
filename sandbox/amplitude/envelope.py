"""One event as text: the facts that decide it, and around them the 55 fields of an exported line in their order.

Facts are cheap and enough for counts; the text is made only where a file is written. All JSON is put together from
parts that are escaped already, because a general writer of JSON costs ten times as much.
"""

# ruff: noqa: S608 - the SQL is made of our own plan and of numbers.
from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from . import plan

if TYPE_CHECKING:
    from .generate import Shape

#: A device is new for so many hours: then it is installed again and gets another device_id.
LIFE_HOURS = 720

#: What a line does wrong, by the number that the facts call it. 6 breaks three rules at once.
VIOLATIONS = (
    "",
    "unplanned event",
    "missing required",
    "wrong type",
    "value not allowed",
    "unexpected property",
    "three",
)

#: Country, region, city, language, latitude and longitude; one place has no region and no position.
_PLACES = (
    ("Germany", "Bayern", "München", "German", "48.1374", "11.5755"),
    ("Japan", "Tokyo", "東京", "Japanese", "35.6895", "139.69171"),
    ("Brazil", "São Paulo", "São Paulo", "Portuguese", "-23.55", "-46.6333"),
    ("United States", "California", "San Francisco", "English", "37.7749", "-122.4194"),
    ("France", "Île-de-France", "Paris", "French", "48.8566", "2.3522"),
    ("Singapore", None, "Singapore", "English", None, None),
    ("Egypt", "القاهرة", "القاهرة", "Arabic", "30.0444", "31.2357"),
    ("Poland", "Małopolskie", "Kraków", "Polish", "50.0647", "19.945"),
)
_COMPANIES = ("Hochtief AG", "Obayashi 大林組", 'Smith & "Sons"', "Vinci", "Łódź Stal", "Skanska", "O'Brien Ltd")


def macros(seed: int) -> list[str]:
    """What the queries call by name."""
    stamp = "strftime(make_timestamp(us), '%Y-%m-%d %H:%M:%S.%f')"
    return [
        "CREATE OR REPLACE MACRO pick(h, xs) AS xs[1 + (h % len(xs)::UBIGINT)::BIGINT]",
        f"CREATE OR REPLACE MACRO h(x, salt) AS hash(x, {seed}, salt)",
        f"""CREATE OR REPLACE MACRO stamp(us) AS concat('"', {stamp}, '"')""",
        "CREATE OR REPLACE MACRO uid(x, salt) AS "
        f"concat('\"', md5(concat(x, '/', {seed}, '/', salt))::UUID::VARCHAR, '\"')",
    ]


def facts_sql(shape: Shape, rows: str) -> str:
    """Who did what when, of the rows (hh, k, kind, up, rev) of a query; times are microseconds since 1970, UTC."""
    count, devices = shape.events_per_hour, shape.devices
    slot = 3_600_000_000 // count
    violations = _violations() if shape.violations else "0"
    return f"""
WITH r0 AS (SELECT *, hh * 10000000 + k AS g FROM ({rows})),
r1 AS (SELECT *, ((h(g, 1) % {devices}) * (h(g, 2) % {devices}) // {devices})::BIGINT AS d,
  CASE WHEN k < {count} THEN k * 3600000000 // {count} + (h(g, 3) % {slot})::BIGINT
  ELSE (h(g, 3) % 3600000000)::BIGINT END AS inside FROM r0),
r2 AS (SELECT *, (hh + (h(d, 4) % {LIFE_HOURS})::BIGINT) // {LIFE_HOURS} AS life,
  (hh + (h(d, 4) % {LIFE_HOURS})::BIGINT) % {LIFE_HOURS} AS age, d // 2 AS person,
  hh * 3600000000 + inside AS t0, CASE WHEN kind = 2 THEN (up - hh) * 3600000000 ELSE 0 END AS shift FROM r1),
r3 AS (SELECT *, hash(d, life, {shape.seed}) AS e, hh // 168 AS week FROM r2),
r4 AS (SELECT *, {_LOGIN} AS login, e % 5 = 0 AS stranger, {_CHAIN} AS chained,
  pick(e // 11, ['iOS', 'Android', 'Web']) AS platform, t0 - 20000 - (h(g, 5) % 2000000)::BIGINT AS received,
  CASE WHEN e % 97 = 3 THEN ((h(e, 6) % 20000)::BIGINT - 10000) * 1000000 + 61000000
  ELSE (h(g, 6) % 5000)::BIGINT * 1000 END AS gap,
  CASE WHEN h(g, 7) % 50 = 0 THEN (h(g, 8) % {72 * 3600})::BIGINT * 1000000
  ELSE (h(g, 8) % 300000)::BIGINT * 1000 END AS waited FROM r3),
r5 AS (SELECT *, received // 1000 * 1000 - gap AS client_up,
  (h(g, 9) % {len(plan.objects())})::BIGINT AS thing, pick(h(g, 10), {[0, 0, 0, 0, 0, 0, 1, 2, 2, 3]}) AS action,
  {violations} AS v, {_ids("100000000000", "d * 1000 + life % 1000")} AS device_ampl,
  700000000000 + person * 13 + 5 AS user_ampl, NOT stranger AND age >= login + {_WAIT} AS known,
  CASE WHEN stranger THEN NULL ELSE hh - age + login + {_WAIT} END AS merged_hour FROM r4),
facts AS (SELECT *, client_up - waited AS client_event,
  CASE WHEN abs(received - client_up) < 60000000 THEN client_up - waited
  ELSE client_up - waited + received - client_up END AS event_us,
  CASE WHEN known THEN user_ampl WHEN chained AND NOT stranger AND age >= login THEN device_ampl + 200000000000
  ELSE device_ampl END AS amplitude_id,
  CASE WHEN v = 1 THEN {_unplanned()} ELSE concat({_choice("thing", tuple(plan.objects()))}, ' ',
  {_choice("action", tuple(plan.actions()))}) END AS event_type FROM r5)"""


#: Hours after its installation at which a device's user logs in, and how the merge goes on: one in ten takes two steps.
_LOGIN = "(6 + e // 7 % 42)::BIGINT"
_CHAIN = "(e // 1000) % 10 = 0"
_WAIT = "(CASE WHEN chained THEN 12 ELSE 0 END)"


def _ids(base: str, number: str) -> str:
    return f"({base} + {number})"


def _violations() -> str:
    """Which rule a row breaks: steady ones, one of a platform, and one that every second release brings to iOS."""
    return (
        "CASE WHEN h(g, 11) % 10000 < 40 THEN 1 "
        "WHEN h(g, 11) % 10000 < 150 AND platform = 'Android' THEN 2 "
        "WHEN h(g, 11) % 10000 < 600 AND platform = 'iOS' AND week % 2 = 0 THEN 3 "
        "WHEN h(g, 11) % 10000 BETWEEN 600 AND 640 THEN 4 "
        "WHEN h(g, 11) % 10000 BETWEEN 641 AND 690 AND platform = 'Web' THEN 5 "
        "WHEN h(g, 11) % 10000 = 700 THEN 6 ELSE 0 END"
    )


def _choice(column: str, words: tuple[str, ...]) -> str:
    return f"{sql_list(words)}[1 + {column}]"


def _unplanned() -> str:
    return f"pick(h(g, 12), {sql_list(plan.UNPLANNED)})"


def sql_list(words: tuple[str | None, ...]) -> str:
    """Words as a list of the engine."""
    return "[" + ", ".join("NULL" if w is None else "'" + w.replace("'", "''") + "'" for w in words) + "]"


def _json_list(words: tuple[str | None, ...]) -> str:
    return sql_list(tuple(json.dumps(word, ensure_ascii=False) for word in words))


def _place(index: int) -> str:
    words = tuple(place[index] for place in _PLACES)
    made = tuple(word or "null" for word in words) if index > 3 else words
    return f"pick(hash(person), {sql_list(made) if index > 3 else _json_list(made)})"


@cache
def _event_properties() -> str:
    """The object of an event's own properties."""
    by_name = {p.name: p for p in plan.common()}

    def member(prop: plan.Property, salt: int) -> str:
        text = f"""',"{prop.name}":', {prop.sql}"""
        if prop.required:
            return text
        return f"CASE WHEN hash(g, {salt}, 'there') % 4 = 0 THEN '' ELSE concat({text}) END"

    def members(props: tuple[plan.Property, ...], start: int) -> str:
        return "concat(" + ", ".join(member(p, start + n) for n, p in enumerate(props)) + ")"

    things = " ".join(f"WHEN {n} THEN {members(p, 1000)}" for n, p in enumerate(plan.objects().values()))
    actions = " ".join(f"WHEN {n} THEN {members(p, 1020)}" for n, p in enumerate(plan.actions().values()))
    optional = members(tuple(p for p in plan.common() if not p.required), 1040)
    return f"""concat('{{"source":', CASE WHEN v IN (4, 6) THEN '"carrier pigeon"' ELSE {by_name["source"].sql} END,
  CASE WHEN v IN (2, 6) THEN '' ELSE concat(',"project_id":', {by_name["project_id"].sql}) END,
  ',"duration_ms":', CASE WHEN v IN (3, 6) THEN concat('"', {by_name["duration_ms"].sql}, ' ms"')
  ELSE {by_name["duration_ms"].sql} END, {optional}, CASE thing {things} END, CASE action {actions} END,
  CASE WHEN v = 5 THEN ',"debug_trace":{{"step":[1,2,{{"ok":true}}],"note":null}}' ELSE '' END, '}}')"""


_USER_PROPERTIES = """concat('{"role":', pick(hash(person, 20), ['"admin"', '"manager"', '"field"', '"guest"']),
  ',"company_size":', (hash(person, 21) % 4000)::VARCHAR, ',"email":"user', person::VARCHAR, '@example.com"',
  ',"languages":', pick(hash(person, 22), ['["de","en"]', '["ja"]', '[]', '["pt-BR","العربية"]']),
  ',"beta":', CASE WHEN hash(person, 23) % 9 = 0 THEN 'true' ELSE 'false' END,
  CASE WHEN hash(person, 24) % 6 = 0 THEN ',"city":"test","City":"London"' ELSE '' END,
  ',"settings":{"units":"metric","grid":{"snap":', (hash(person, 25) % 20)::VARCHAR,
  ',"colour":null}},"nickname":null}')"""


@cache
def _fields() -> tuple[tuple[str, str], ...]:
    """Name and JSON of every field, in the order in which they stand in a line."""
    company = f"pick(hash(person, 30), {_json_list(_COMPANIES)})"
    web, ios = "platform = 'Web'", "platform = 'iOS'"
    null = "'null'"

    def made(of_web: str, of_ios: str, of_android: str) -> str:
        return f"CASE WHEN {web} THEN '{of_web}' WHEN {ios} THEN '{of_ios}' ELSE '{of_android}' END"

    return (
        ("$insert_id", f"CASE WHEN h(g, 13) % 500 = 1 THEN {null} ELSE uid(g, 'insert') END"),
        ("$insert_key", null), ("$schema", f"CASE WHEN {web} THEN {null} ELSE '13' END"),
        ("adid", f"CASE WHEN {web} OR {ios} THEN {null} ELSE uid(e, 'adid') END"),
        ("amplitude_attribution_ids",
         f"CASE WHEN h(g, 14) % 100 = 0 THEN concat('[', uid(g, 'a'), ']') ELSE {null} END"),
        ("amplitude_event_type", null), ("amplitude_id", "amplitude_id::VARCHAR"), ("app", "$app"), ("city", _place(2)),
        ("client_event_time", "stamp(client_event)"), ("client_upload_time", "stamp(client_up + shift)"),
        ("country", _place(0)),
        ("data", """concat('{"path":"/2/httpapi","group_first_event":{},"group_ids":{"company":{', """
                 f"{company}, ':', (hash(person, 31) % 900000000000)::VARCHAR, '}}}}', CASE WHEN age = 0 THEN "
                 """',"first_event":true' ELSE '' END, '}')"""),
        ("data_type", "'\"event\"'"), ("device_brand", made("null", '"Apple"', '"Samsung"').replace("'null'", null)),
        ("device_carrier",
         f"CASE WHEN {web} THEN {null} ELSE pick(e, {_json_list(('Telekom', 'NTT ドコモ', 'Vivo'))}) END"),
        ("device_family", made('"Chrome"', '"Apple iPhone"', '"Samsung Galaxy S"')), ("device_id", "uid(e, 'device')"),
        ("device_manufacturer", made("null", '"Apple"', '"Samsung"')),
        ("device_model", made("null", '"iPhone 15"', '"S23"')),
        ("device_type", made('"Windows"', '"Apple iPhone"', '"Samsung Galaxy S"')),
        ("dma",
         f"CASE WHEN {_place(0)} = '\"United States\"' THEN '\"San Francisco-Oakland-San Jose, CA\"' ELSE {null} END"),
        ("event_id", "((hh * 977 + k) % 2147483647)::VARCHAR"), ("event_properties", _event_properties()),
        ("event_time", "stamp(event_us)"), ("event_type", "to_json(event_type)::VARCHAR"),
        ("global_user_properties", null),
        ("group_properties", f"""CASE WHEN h(person, 32) % 3 = 0 THEN concat('{{"company":{{', {company}, """
                             f"""':{{"tier":"gold","seats":', (hash(person, 33) % 900)::VARCHAR, '}}}}}}') """
                             "ELSE '{}' END"""),
        ("groups", f"""concat('{{"company":[', {company}, ']}}')"""),
        ("idfa", f"CASE WHEN {ios} AND e % 3 = 0 THEN uid(e, 'idfa') ELSE {null} END"),
        ("ip_address", "concat('\"203.0.113.', (e % 254)::VARCHAR, '\"')"),
        ("is_attribution_event", f"CASE WHEN h(g, 14) % 100 = 0 THEN 'false' ELSE {null} END"), ("language", _place(3)),
        ("library", made('"amplitude-ts/2.11.1"', '"amplitude-swift/1.9.2"', '"amplitude-analytics-android/1.16.8"')),
        ("location_lat", _place(4)), ("location_lng", _place(5)),
        ("os_name", made('"Chrome"', '"ios"', '"android"')), ("os_version", made('"129"', '"17.5.1"', '"14"')),
        ("partner_id", null), ("paying", f"CASE WHEN person % 4 = 0 THEN 'true' ELSE {null} END"),
        ("plan", f"""CASE WHEN {web} THEN '{{"branch":"main","source":"web","version":"2"}}' ELSE '{{}}' END"""),
        ("platform", "concat('\"', platform, '\"')"),
        ("processed_time", "stamp(t0 + shift + 500000 + (h(g, 15) % 30000000)::BIGINT + rev * 86400000000)"),
        ("region", _place(1)), ("sample_rate", null), ("server_received_time", "stamp(received + shift)"),
        ("server_upload_time", "stamp(t0 + shift)"),
        ("session_id", "CASE WHEN h(g, 16) % 33 = 0 THEN '-1' ELSE "
                       "(client_event // 1800000000 * 1800000 + (e % 1000)::BIGINT)::VARCHAR END"),
        ("source_id", null), ("start_version", f"CASE WHEN {web} THEN {null} ELSE '\"4.0.2\"' END"),
        ("user_creation_time", f"CASE WHEN known THEN stamp((hh - age) * 3600000000) ELSE {null} END"),
        ("user_id", f"""CASE WHEN known THEN concat('"user-', lpad(person::VARCHAR, 8, '0'), '"') ELSE {null} END"""),
        ("user_properties", _USER_PROPERTIES), ("uuid", "uid(g, CASE WHEN kind = 2 THEN 'uuid again' ELSE 'uuid' END)"),
        ("version_name", f"CASE WHEN {web} AND e % 4 = 0 THEN {null} ELSE concat('\"5.', (week % 200)::VARCHAR, '.', "
                         "(e % 3)::VARCHAR, '\"') END"),
    )  # fmt: skip


FIELDS = tuple(name for name, _ in _fields())


def lines_sql(shape: Shape, rows: str) -> str:
    """One column `line`: an event's JSON and a line feed."""
    parts = []
    for place, (name, value) in enumerate(_fields()):
        key = ("{" if place == 0 else ",") + f'"{name}":'
        of_project = value.replace("$app", f"'{shape.project_id}'")
        parts.append(f"'{key}', {of_project}")
    text = ",\n  ".join(parts)
    return f"{facts_sql(shape, rows)}\nSELECT concat({text}, '}}', chr(10)) AS line FROM facts"


def merges_sql(shape: Shape, hour: int) -> str:
    """One column `line`: a device's id that goes away and the one that remains; chains take two steps."""
    devices = f"""
WITH m0 AS (SELECT d, ({hour} + (h(d, 4) % {LIFE_HOURS})::BIGINT) // {LIFE_HOURS} AS life,
  ({hour} + (h(d, 4) % {LIFE_HOURS})::BIGINT) % {LIFE_HOURS} AS age FROM range({shape.devices}) r(d)),
m1 AS (SELECT *, hash(d, life, {shape.seed}) AS e, {_ids("100000000000", "d * 1000 + life % 1000")} AS device_ampl
  FROM m0),
m2 AS (SELECT *, {_LOGIN} AS login, {_CHAIN} AS chained, 700000000000 + (d // 2) * 13 + 5 AS user_ampl FROM m1
  WHERE e % 5 > 0),
m3 AS (SELECT d, e, device_ampl AS gone, CASE WHEN chained THEN device_ampl + 200000000000 ELSE user_ampl END AS stays
  FROM m2 WHERE age = login UNION ALL
  SELECT d, e, device_ampl + 200000000000, user_ampl FROM m2 WHERE chained AND age = login + 12)"""
    when = f"{hour}::BIGINT * 3600000 + (e % 3500000)::BIGINT"
    return f"""{devices}
SELECT concat('{{"scope":{shape.project_id},"merge_time":', {when}, ',"merge_server_time":', {when} + 9000,
  ',"amplitude_id":', gone, ',"merged_amplitude_id":', stays, '}}', chr(10)) AS line FROM m3 ORDER BY d, gone"""
