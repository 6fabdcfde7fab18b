"""From a source's text to typed columns, as DuckDB expressions, with one rule for what cannot be typed.

A value is taken only if nothing is lost: ``0.0`` is the integer 0, ``0.5`` is none; ``75.005`` is no
decimal(18,2). Each expression comes with a condition that is true on exactly the values it cannot take.
"""

from __future__ import annotations

from dataclasses import dataclass

from novade_core.rowhash import quote
from novade_core.streams import Column, ColumnType

#: The instants that every warehouse, Parquet reader and Python can hold, and the same in milliseconds since 1970.
_FIRST, _LAST = "TIMESTAMP '0001-01-01'", "TIMESTAMP '9999-12-31 23:59:59.999999'"
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


@dataclass(frozen=True, kw_only=True)
class TypedExpression:
    """``value`` is NULL where the text is NULL or cannot be taken; ``bad`` tells the two apart."""

    value: str
    bad: str | None  #: None where every text fits
    reason: str = ""  #: for people: "is not a date (YYYY-MM-DD)"


def typed(column: Column) -> TypedExpression:
    """The expression for one column over the text column of the same name."""
    raw = quote(column.name)
    match column.type:
        case ColumnType.TEXT | ColumnType.TIME | ColumnType.JSON:
            return TypedExpression(value=raw, bad=None)
        case ColumnType.BOOLEAN:
            value = f"TRY_CAST({raw} AS BOOLEAN)"
            return TypedExpression(value=value, bad=f"{value} IS NULL", reason="is neither true nor false")
        case ColumnType.INTEGER | ColumnType.BIGINT:
            sql = "INTEGER" if column.type is ColumnType.INTEGER else "BIGINT"
            # The cast rounds, and takes 0x10, 1_000 and blanks; only a text with a point or an exponent can lose.
            value = f"TRY_CAST({raw} AS {sql})"
            digits = f"regexp_full_match({raw}, '[+-]?[0-9]+')"
            number = f"regexp_full_match({raw}, '[+-]?[0-9]+[.]?[0-9]*([eE][+-]?[0-9]+)?')"
            exact = f"({number} AND TRY_CAST({raw} AS DECIMAL(38,12)) IS NOT DISTINCT FROM {value})"
            return TypedExpression(
                value=value,
                bad=f"({value} IS NULL OR NOT ({digits} OR {exact}))",
                reason=f"is not a whole number of {sql} size",
            )
        case ColumnType.DECIMAL:
            precision, scale = column.precision or 38, column.scale or 0
            value = f"TRY_CAST({raw} AS DECIMAL({precision},{scale}))"
            # As many places as still leave room for the digits before the point.
            exact = f"TRY_CAST({raw} AS DECIMAL(38,{38 - (precision - scale)}))"
            lossy = f"{exact} IS DISTINCT FROM {value}"
            if precision > 26:  # too few places are left to see what rounding took, so the digits are looked at
                lossy += f" OR regexp_matches({raw}, '^[^eE]*[.][0-9]{{{scale}}}[0-9]*[1-9][^eE]*$')"
            return TypedExpression(
                value=value,
                bad=f"({value} IS NULL OR {lossy})",
                reason=f"is not a number of at most {precision} digits, {scale} of them after the point",
            )
        case ColumnType.DOUBLE:
            value = f"TRY_CAST({raw} AS DOUBLE)"
            return TypedExpression(
                value=value, bad=f"({value} IS NULL OR NOT isfinite({value}))", reason="is not a finite number"
            )
        case ColumnType.DATE:
            value = f"TRY_CAST({raw} AS DATE)"
            return TypedExpression(
                value=value,
                # The cast also takes 2024/01/15, blanks, "epoch", infinity and years before 1; none of them comes back.
                bad=f"(length({raw}) <> 10 OR CAST({value} AS VARCHAR) IS DISTINCT FROM {raw})",
                reason="is not a date (YYYY-MM-DD)",
            )
        case ColumnType.TIMESTAMP:
            # Three spellings occur: …Z, …+0000, and epoch milliseconds as digits. DuckDB's cast to TIMESTAMP
            # drops any other offset without a word, so those go the slower way through TIMESTAMPTZ (zone UTC).
            # Milliseconds outside the years 1 to 9999 become NULL first: epoch_ms raises on what it cannot hold.
            digits = f"TRY_CAST({raw} AS BIGINT)"
            epoch = f"epoch_ms(CASE WHEN {digits} BETWEEN {_FIRST_MS} AND {_LAST_MS} THEN {digits} END)"
            value = (
                f"CASE WHEN {raw}[5] <> '-' THEN {epoch} "
                f"WHEN {raw}[-1] = 'Z' OR {raw}[-5:] = '+0000' THEN TRY_CAST({raw} AS TIMESTAMP) "
                f"ELSE CAST(TRY_CAST({raw} AS TIMESTAMPTZ) AS TIMESTAMP) END"
            )
            return TypedExpression(
                value=value,
                bad=f"coalesce(({value}) NOT BETWEEN {_FIRST} AND {_LAST}, true)",
                reason="is not an instant (ISO 8601) in the years 1 to 9999",
            )
