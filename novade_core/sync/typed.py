"""From a source's text to typed columns, as DuckDB expressions, with one rule for what cannot be typed.

A value is taken only if nothing is lost: ``0.0`` is the integer 0, ``0.5`` is none; ``75.005`` is no
decimal(18,2). Each expression comes with a condition that is true on exactly the values it cannot take.
"""

from __future__ import annotations

from dataclasses import dataclass

from novade_core.rowhash import quote
from novade_core.streams import Column, ColumnType


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
            # The cast rounds; only a text with a point or an exponent can have something to lose.
            value = f"TRY_CAST({raw} AS {sql})"
            lossy = f"regexp_matches({raw}, '[.eE]') AND TRY_CAST({raw} AS DECIMAL(38,12)) IS DISTINCT FROM {value}"
            return TypedExpression(
                value=value, bad=f"({value} IS NULL OR ({lossy}))", reason=f"is not a whole number of {sql} size"
            )
        case ColumnType.DECIMAL:
            precision, scale = column.precision or 38, column.scale or 0
            value = f"TRY_CAST({raw} AS DECIMAL({precision},{scale}))"
            # As many places as still leave room for the digits before the point.
            exact = f"TRY_CAST({raw} AS DECIMAL(38,{38 - (precision - scale)}))"
            return TypedExpression(
                value=value,
                bad=f"({value} IS NULL OR {exact} IS DISTINCT FROM {value})",
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
                value=value, bad=f"({value} IS NULL OR length({raw}) <> 10)", reason="is not a date (YYYY-MM-DD)"
            )
        case ColumnType.TIMESTAMP:
            # Three spellings occur: …Z, …+0000, and epoch milliseconds as digits. DuckDB's cast to TIMESTAMP
            # drops any other offset without a word, so those go the slower way through TIMESTAMPTZ (zone UTC).
            value = (
                f"CASE WHEN {raw}[5] <> '-' THEN epoch_ms(TRY_CAST({raw} AS BIGINT)) "
                f"WHEN {raw}[-1] = 'Z' OR {raw}[-5:] = '+0000' THEN TRY_CAST({raw} AS TIMESTAMP) "
                f"ELSE CAST(TRY_CAST({raw} AS TIMESTAMPTZ) AS TIMESTAMP) END"
            )
            return TypedExpression(value=value, bad=f"({value}) IS NULL", reason="is not an instant (ISO 8601)")
