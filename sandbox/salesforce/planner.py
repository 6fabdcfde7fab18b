# ruff: noqa: S608 - names in the SQL come from the schema, never from the request; values are parameters.
"""What a SOQL tree means in this org: names looked up, rules applied, SQL written.

Text values travel as parameters. Names in the SQL come from the schema, never from the request.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from . import soql
from .dates import bounds
from .errors import ApiError, invalid_field, malformed, no_such_column, no_such_type
from .ids import normalise_id
from .plan import Column, Plan, alive
from .schema import COMPOUND, IDS, NUMERIC, Field, SObject

_AGGREGATE_SQL = {"COUNT": "count", "COUNT_DISTINCT": "count(DISTINCT", "MIN": "min", "MAX": "max", "SUM": "sum",
                  "AVG": "avg"}  # fmt: skip
_DATE_SQL = {
    "CALENDAR_YEAR": "year({})::BIGINT",
    "CALENDAR_MONTH": "month({})::BIGINT",
    "CALENDAR_QUARTER": "quarter({})::BIGINT",
    "DAY_ONLY": "CAST({} AS DATE)",
    "HOUR_IN_DAY": "hour({})::BIGINT",
    "DAY_IN_MONTH": "day({})::BIGINT",
}


def build_plan(
    query: soql.Query,
    objects: dict[str, SObject],
    *,
    today: date,
    all_rows: bool = False,
    bulk: bool = False,
    admin: bool = False,
) -> Plan:
    """The plan, or the refusal the real service would give. `admin` sees hidden objects and fields (control routes)."""
    return _Planner(query, objects, today, all_rows, bulk, admin).plan()


class _Planner:
    def __init__(
        self, query: soql.Query, objects: dict[str, SObject], today: date, all_rows: bool, bulk: bool, admin: bool
    ) -> None:
        self.query = query
        self.objects = {name.lower(): thing for name, thing in objects.items()}
        self.today = today
        self.all_rows = all_rows
        self.bulk = bulk
        self.admin = admin
        self.joins: dict[tuple[str, ...], tuple[str, SObject]] = {}
        self.join_sql: list[str] = []
        self.params: list[object] = []
        self.local = True
        self.aliases: dict[str, str] = {}
        entity = self.objects.get(query.entity.lower())
        if entity is None or (entity.hidden and not admin):
            raise no_such_type(query.text, query.entity_position, query.entity)
        if not entity.queryable:
            raise ApiError(400, "INVALID_TYPE_FOR_OPERATION", f"entity type {entity.name} does not support query")
        self.entity = entity

    # -- the whole

    def plan(self) -> Plan:
        query = self.query
        if self.bulk:
            self.refuse_for_bulk()
        if query.traits:
            raise malformed(query.text, 0, f"not answered by this stand-in: {', '.join(sorted(query.traits))}")
        aggregate = bool(query.group_by) or any(
            isinstance(s.what, soql.Call) and s.what.name in soql.AGGREGATES for s in query.selected
        )
        count_only = any(isinstance(s.what, soql.Call) and s.what.argument is None for s in query.selected)
        if count_only and (len(query.selected) > 1 or query.order_by or query.group_by):
            place = query.selected[0].what.position
            raise malformed(query.text, place, "COUNT() must be the only element in the SELECT list")
        if query.offset is not None and query.offset > 2000:
            raise ApiError(400, "NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
        columns = [] if count_only else self.select_aggregate() if aggregate else self.select_fields()
        # Parents joined for SELECT do not decide which rows are found; those joined from here on do.
        self.local = True
        where = self.deleted_filter()
        if query.where is not None:
            where = f"{where} AND {self.condition(query.where, False)}"
        group_by = [self.value_sql(item, grouping=True)[0] for item in query.group_by]
        having = self.condition(query.having, False) if query.having is not None else ""
        order = [self.ordered(item, aggregate) for item in query.order_by]
        return Plan(
            entity=self.entity,
            columns=columns,
            joins=self.join_sql,
            where=where,
            params=self.params,
            order_by=", ".join(order),
            limit=query.limit,
            offset=query.offset,
            group_by=group_by,
            having=having,
            count_only=count_only,
            aggregate=aggregate and not count_only,
            local=self.local and not order and query.limit is None,
            joins_find=not self.local,
        )

    def deleted_filter(self) -> str:
        if self.all_rows:
            return "true"
        tests = [f"NOT t.{name}" for name in ("IsDeleted", "IsArchived") if self.entity.has(name)]
        return " AND ".join(tests) or "true"

    def refuse_for_bulk(self) -> None:
        query, name = self.query, self.entity.name
        if not self.entity.bulk:
            raise ApiError(400, "INVALIDENTITY", f"Entity '{name}' is not supported by the Bulk API.")
        calls = [s.what for s in query.selected if isinstance(s.what, soql.Call)]
        refused = {
            "GROUP BY": bool(query.group_by),
            "OFFSET": query.offset is not None,
            "TYPEOF": "typeof" in query.traits,
            "nested queries": "subquery" in query.traits,
            "FIELDS()": any(c.name == "FIELDS" for c in calls),
            "aggregate functions": any(c.name != "FIELDS" for c in calls),
        }
        for what, present in refused.items():
            if present:
                raise ApiError(400, "API_ERROR", f"API does not support query: {what} is not supported in Bulk Query")

    # -- SELECT

    def select_fields(self) -> list[Column]:
        columns: list[Column] = []
        seen: set[str] = set()
        for item in self.query.selected:
            if isinstance(item.what, soql.Call):
                if item.what.name != "FIELDS":
                    raise malformed(self.query.text, item.what.position, f"unexpected token: '{item.what.name}'")
                columns += self.every_field(item.what)
                continue
            column = self.column(item.what)
            key = ".".join(column.path).lower()
            if key in seen:
                raise ApiError(400, "INVALID_FIELD", f"duplicate field selected: {item.what.path}")
            seen.add(key)
            columns.append(column)
        return columns

    def every_field(self, call: soql.Call) -> list[Column]:
        which = call.argument.path.upper() if call.argument else ""
        if which != "STANDARD" and (self.query.limit is None or self.query.limit > 200):
            raise malformed(self.query.text, call.position, "The SOQL FIELDS function must have a LIMIT of at most 200")
        fields = [f for f in self.entity.visible() if which == "ALL" or f.custom == (which == "CUSTOM")]
        return [self.column(soql.FieldRef(f.name, call.position)) for f in fields]

    def select_aggregate(self) -> list[Column]:
        columns = []
        unnamed = 0
        for item in self.query.selected:
            sql, kind, name = self.value_sql(item.what)
            alias = item.alias
            if isinstance(item.what, soql.Call):
                if alias is None:
                    alias, unnamed = f"expr{unnamed}", unnamed + 1
                if item.what.name not in soql.AGGREGATES and item.what not in self.query.group_by:
                    raise self.not_grouped(item.what)
            elif item.what.path.lower() not in {
                g.path.lower() for g in self.query.group_by if isinstance(g, soql.FieldRef)
            }:
                raise self.not_grouped(item.what)
            self.aliases[(alias or name).lower()] = sql
            columns.append(Column((alias or name,), kind, sql))
        return columns

    def not_grouped(self, what: soql.FieldRef | soql.Call) -> ApiError:
        name = what.path if isinstance(what, soql.FieldRef) else what.name
        return malformed(self.query.text, what.position, f"Field must be grouped or aggregated: {name}")

    def column(self, ref: soql.FieldRef) -> Column:
        alias, thing, found, path, parents = self.resolve(ref)
        if found.type in COMPOUND:
            if self.bulk:
                raise ApiError(400, "FEATURE_NOT_ENABLED", "Selecting compound data not supported in Bulk Query")
            parts = tuple((_part_key(found, p), self.stored(alias, p)) for p in thing.parts(found.name))
            return Column((*path, found.name), found.type, "NULL", parents, parts)
        if self.bulk and found.type == "base64":
            message = f"Entity '{thing.name}' is not supported by the Bulk API: binary field {found.name}"
            raise ApiError(400, "INVALIDENTITY", message)
        return Column((*path, found.name), found.type, self.read(alias, thing, found, path, ref), parents)

    # -- names

    def resolve(self, ref: soql.FieldRef) -> tuple[str, SObject, Field, tuple[str, ...], tuple[tuple[str, str], ...]]:
        """Walk a dotted path to its field, joining parents on the way."""
        steps = ref.path.split(".")
        if steps[0].lower() in (self.entity.name.lower(), (self.query.entity_alias or "").lower()) and len(steps) > 1:
            steps = steps[1:]
        alias, thing = "t", self.entity
        path: tuple[str, ...] = ()
        parents: tuple[tuple[str, str], ...] = ()
        for step in steps[:-1]:
            link = next(
                (
                    f
                    for f in thing.fields
                    if (f.relationship or "").lower() == step.lower() and (self.admin or not f.hidden)
                ),
                None,
            )
            targets = [self.objects.get(name.lower()) for name in (link.reference_to if link else ())]
            usable = [t for t in targets if t is not None and (self.admin or not t.hidden)]
            if link is None or not usable:
                raise invalid_field(
                    self.query.text, ref.position,
                    f"Didn't understand relationship '{step}' in field path. If you are attempting to use a custom "
                    "relationship, be sure to append the '__r' after the custom relationship name. Please reference "
                    "your WSDL or the describe call for the appropriate names.",
                )  # fmt: skip
            path = (*path, link.relationship or step)
            alias, thing = self.join(path, alias, link, usable)
            parents = (*parents, (thing.name, f"{alias}.Id"))
            self.local = False
        found = thing.by_name.get(steps[-1].lower()) if self.admin else thing.find(steps[-1])
        if found is None:
            raise no_such_column(self.query.text, ref.position, steps[-1], thing.name)
        return alias, thing, found, path, parents

    def join(self, path: tuple[str, ...], alias: str, link: Field, targets: list[SObject]) -> tuple[str, SObject]:
        if path not in self.joins:
            new = f"p{len(self.joins)}"
            if len(targets) == 1:
                source, thing = f'"{targets[0].name}"', targets[0]
                alive_test = f" AND {alive(new)}"
            else:
                source, thing = _polymorphic(targets)
                alive_test = ""
            self.join_sql.append(f'LEFT JOIN {source} {new} ON {new}.Id = {alias}."{link.name}"{alive_test}')
            self.joins[path] = (new, thing)
        return self.joins[path]

    def stored(self, alias: str, found: Field) -> str:
        sql = f'{alias}."{found.name}"'
        # After a change of type the column still holds the old one; what does not fit reads as null.
        return f"TRY_CAST({sql} AS {found.physical})" if found.stored not in (None, found.physical) else sql

    def read(self, alias: str, thing: SObject, found: Field, path: tuple[str, ...], ref: soql.FieldRef) -> str:
        if found.formula is None:
            return self.stored(alias, found)
        if re.fullmatch(r"\w+(\.\w+)+", found.formula):
            # A formula is worked out by the system: the reader's permissions on its inputs do not matter.
            seeing, self.admin = self.admin, True
            dotted = ".".join((*path, found.formula))
            inner = self.resolve(soql.FieldRef(dotted, ref.position))
            self.admin = seeing
            return self.stored(inner[0], inner[2])

        def known(match: re.Match[str]) -> str:
            part = thing.by_name.get(match.group().lower())
            return match.group() if part is None else self.stored(alias, part)

        return "(" + re.sub(r"[A-Za-z_]\w*", known, found.formula) + ")"

    def value_sql(self, what: soql.FieldRef | soql.Call, *, grouping: bool = False) -> tuple[str, str, str]:
        """SQL, type and answer name of something in SELECT, GROUP BY, HAVING or ORDER BY of an aggregate query."""
        text = self.query.text
        if isinstance(what, soql.FieldRef):
            if what.path.lower() in self.aliases:
                return self.aliases[what.path.lower()], "any", what.path
            alias, thing, found, path, _ = self.resolve(what)
            if grouping and not found.groupable:
                raise malformed(text, what.position, f"field '{found.name}' can not be grouped in a query call")
            return self.read(alias, thing, found, path, what), found.type, found.name
        if what.argument is None:
            return "count(*)", "int", "expr0"
        alias, thing, found, path, _ = self.resolve(what.argument)
        inner = self.read(alias, thing, found, path, what.argument)
        if what.name in soql.DATE_FUNCTIONS:
            if found.type not in ("date", "datetime"):
                raise malformed(text, what.position, f"{what.name} function only applies to date or datetime fields")
            return _DATE_SQL[what.name].format(inner), "date" if what.name == "DAY_ONLY" else "int", what.name
        if what.name in ("SUM", "AVG") and found.type not in NUMERIC:
            raise malformed(text, what.position, f"field {found.name} does not support aggregate operator {what.name}")
        if found.long_text or (what.name in ("MIN", "MAX") and found.type in ("boolean", "multipicklist")):
            raise malformed(text, what.position, f"field {found.name} does not support aggregate operator {what.name}")
        close = "))" if what.name == "COUNT_DISTINCT" else ")"
        kind = "int" if what.name.startswith("COUNT") else "double" if what.name == "AVG" else found.type
        return f"{_AGGREGATE_SQL[what.name]}({inner}{close}", kind, "expr0"

    # -- WHERE, HAVING, ORDER BY

    def condition(self, node: soql.Condition, inside_not: bool) -> str:
        if isinstance(node, soql.Chain):
            return "(" + f" {node.word} ".join(self.condition(part, inside_not) for part in node.parts) + ")"
        if isinstance(node, soql.Not):
            return f"(NOT {self.condition(node.inner, True)})"
        sql = self.compare(node) if isinstance(node, soql.Compare) else self.among(node)
        # SOQL knows no "unknown": under NOT a comparison with null counts as false. Elsewhere plain SQL says the same
        # and lets the database skip rows.
        return f"coalesce({sql}, false)" if inside_not else sql

    def left(self, node: soql.Compare | soql.Among) -> tuple[str, str, str]:
        what = node.left
        if isinstance(what, soql.FieldRef) and what.path.lower() not in self.aliases:
            alias, thing, found, path, _ = self.resolve(what)
            if not found.filterable or found.type in COMPOUND:
                message = f"field '{found.name}' can not be filtered in a query call"
                raise invalid_field(self.query.text, what.position, message)
            return self.read(alias, thing, found, path, what), found.type, found.name
        return self.value_sql(what)

    def compare(self, node: soql.Compare) -> str:
        sql, kind, name = self.left(node)
        operator, value = node.operator, node.value
        if operator in ("INCLUDES", "EXCLUDES"):
            return self.includes(sql, kind, node)
        if isinstance(value, soql.DateLiteral):
            if kind not in ("date", "datetime"):
                raise self.wrong_type(name, kind, node.position)
            return self.date_range(sql, kind, operator, value)
        if value is None:
            if operator not in ("=", "!="):
                raise malformed(self.query.text, node.position, "unexpected token: 'null'")
            return f"({sql} IS {'NOT ' if operator == '!=' else ''}NULL)"
        sql, bound = self.bind(sql, kind, name, value, node.position)
        if operator == "LIKE":
            if not isinstance(value, str) or kind in IDS or kind in PHYSICAL_ONLY:
                raise invalid_field(self.query.text, node.position, f"invalid operator on {kind} field")
            self.params.append(bound)
            return f"({sql} LIKE ? ESCAPE '\\')"
        self.params.append(bound)
        if operator == "!=":
            # Rows without a value are different from any value.
            return f"({sql} IS DISTINCT FROM ?)"
        return f"({sql} {operator} ?)"

    def includes(self, sql: str, kind: str, node: soql.Compare) -> str:
        if kind != "multipicklist":
            raise invalid_field(
                self.query.text, node.position, f"{node.operator} operator only for multipicklist fields"
            )
        tests = []
        for value in node.value:
            wanted = str(value).split(";")
            self.params += [word.lower() for word in wanted]
            tests.append("(" + " AND ".join(f"list_contains(string_split(lower({sql}), ';'), ?)" for _ in wanted) + ")")
        found = "coalesce((" + " OR ".join(tests) + "), false)"
        return found if node.operator == "INCLUDES" else f"(NOT {found})"

    def among(self, node: soql.Among) -> str:
        sql, kind, name = self.left(node)
        if isinstance(node.values, soql.Query):
            inner = _Planner(node.values, {t.name: t for t in self.objects.values()}, self.today, self.all_rows, False,
                             self.admin)  # fmt: skip
            made = inner.plan()
            self.params += made.params
            self.local = False
            test = (
                f'{sql} IN (SELECT {made.columns[0].sql} FROM "{made.entity.name}" t {" ".join(made.joins)} '
                f"WHERE {alive('t')} AND ({made.where}))"
            )
            return f"(NOT coalesce({test}, false))" if node.negated else f"({test})"
        marks = []
        null = False
        for value in node.values:
            if value is None:
                null = True
                continue
            if isinstance(value, soql.DateLiteral):
                raise malformed(self.query.text, node.position, f"unexpected token: '{value.name}'")
            shown, bound = self.bind(sql, kind, name, value, node.position)
            self.params.append(bound)
            marks.append("?")
        test = f"{shown} IN ({', '.join(marks)})" if marks else "false"
        if null:
            test = f"({test} OR {sql} IS NULL)"
        return f"(NOT coalesce({test}, false))" if node.negated else f"({test})"

    def bind(self, sql: str, kind: str, name: str, value: object, position: int) -> tuple[str, object]:
        """The left side and the value in comparable forms, or the complaint about their types."""
        if kind == "any":
            return sql, value
        if kind in IDS:
            if not isinstance(value, str):
                raise self.wrong_type(name, kind, position)
            full = normalise_id(value)
            if full is None and value:
                raise ApiError(400, "INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value}")
            return sql, full or ""
        if kind == "boolean":
            if not isinstance(value, bool):
                raise self.wrong_type(name, kind, position)
            return sql, value
        if kind == "datetime":
            if not isinstance(value, datetime):
                raise self.wrong_type(name, "dateTime", position)
            return sql, value
        if kind == "date":
            if isinstance(value, datetime) or not isinstance(value, date):
                raise self.wrong_type(name, kind, position)
            return sql, value
        if kind in NUMERIC:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self.wrong_type(name, kind, position)
            return sql, value
        if not isinstance(value, str):
            rule = "must be of type string and should be enclosed in quotes"
            raise invalid_field(self.query.text, position, f"value of filter criterion for field '{name}' {rule}")
        return f"lower({sql})", value.lower()

    def wrong_type(self, name: str, kind: str, position: int) -> ApiError:
        return invalid_field(self.query.text, position, f"value of filter criterion for field '{name}' must be of type "
                             f"{kind} and should not be enclosed in quotes")  # fmt: skip

    def date_range(self, sql: str, kind: str, operator: str, literal: soql.DateLiteral) -> str:
        start, end = bounds(literal, self.today)
        cast = "TIMESTAMP" if kind == "datetime" else "DATE"

        def mark(day: date) -> str:
            self.params.append(day)
            return f"CAST(? AS {cast})"

        if operator in ("=", "!="):
            inside = f"({sql} >= {mark(start)} AND {sql} < {mark(end)})"
            return inside if operator == "=" else f"(NOT coalesce({inside}, false))"
        if operator in ("<", ">="):
            return f"({sql} {operator} {mark(start)})"
        return f"({sql} {'<' if operator == '<=' else '>='} {mark(end)})"

    def ordered(self, item: soql.Ordered, aggregate: bool) -> str:
        if aggregate:
            sql, kind, _ = self.value_sql(item.what)
        else:
            if isinstance(item.what, soql.Call):
                raise malformed(self.query.text, item.what.position, f"unexpected token: '{item.what.name}'")
            alias, thing, found, path, _ = self.resolve(item.what)
            if not found.sortable:
                raise malformed(
                    self.query.text, item.what.position, f"field '{found.name}' can not be sorted in a query call"
                )
            sql, kind = self.read(alias, thing, found, path, item.what), found.type
        if kind not in (*PHYSICAL_ONLY, *IDS, "any"):
            sql = f"lower({sql})"
        return f"{sql} {'DESC' if item.descending else 'ASC'} NULLS {'LAST' if item.nulls_last else 'FIRST'}"


#: Types that are not text and so know no case.
PHYSICAL_ONLY = ("boolean", "int", "long", "double", "currency", "percent", "date", "datetime")


def _part_key(compound: Field, part: Field) -> str:
    """MailingPostalCode -> postalCode, Office__Latitude__s -> latitude."""
    if compound.type == "location":
        return "latitude" if "Latitude" in part.name else "longitude"
    prefix = compound.name.removesuffix("Address")
    name = part.name.removeprefix(prefix)
    return name[:1].lower() + name[1:]


def _polymorphic(targets: list[SObject]) -> tuple[str, SObject]:
    """A link that can point to several objects sees only what they share: Id, Name and Type."""
    picks = []
    for thing in targets:
        name = "Name" if thing.has("Name") else "CaseNumber" if thing.has("CaseNumber") else "NULL"
        picks.append(f"SELECT Id, {name} AS Name, '{thing.name}' AS Type FROM \"{thing.name}\" q WHERE {alive('q')}")
    fields = tuple(Field(name=n, type="id" if n == "Id" else "string", length=255) for n in ("Id", "Name", "Type"))
    return f"({' UNION ALL '.join(picks)})", SObject(name="Name", prefix=None, fields=fields)
