"""Refusals in Salesforce's own words; the server turns them into its list-shaped error bodies."""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than success: HTTP status, error code and message as the real service gives them."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self) -> list[dict[str, str]]:
        return [{"message": self.message, "errorCode": self.code}]


def at(text: str, position: int, message: str) -> str:
    """The message with the piece of the query it is about, a caret below, and row and column."""
    before = text[:position]
    row = before.count("\n") + 1
    column = position - (before.rfind("\n") + 1) + 1
    start = max(0, position - 40)
    snippet = text[start : position + 40].replace("\n", " ").replace("\r", " ")
    return f"\n{snippet}\n{' ' * (position - start)}^\nERROR at Row:{row}:Column:{column}\n{message}"


def malformed(text: str, position: int, message: str) -> ApiError:
    return ApiError(400, "MALFORMED_QUERY", at(text, position, message))


def invalid_field(text: str, position: int, message: str) -> ApiError:
    return ApiError(400, "INVALID_FIELD", at(text, position, message))


def no_such_column(text: str, position: int, name: str, entity: str) -> ApiError:
    return invalid_field(
        text,
        position,
        f"No such column '{name}' on entity '{entity}'. If you are attempting to use a custom field, be sure to append "
        "the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate "
        "names.",
    )


def no_such_type(text: str, position: int, name: str) -> ApiError:
    return ApiError(
        400,
        "INVALID_TYPE",
        at(
            text,
            position,
            f"sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to append "
            "the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate "
            "names.",
        ),
    )
