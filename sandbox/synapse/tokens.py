"""Statements as tokens: batches are taken apart here, and forms that sqlglot does not know are read from here."""

from __future__ import annotations

import re

from sqlglot.dialects.tsql import TSQL
from sqlglot.errors import TokenError
from sqlglot.tokens import Token, TokenType

from .errors import SqlError, parse_error
from .sqltypes import SqlType, make_type, with_collation

_QUOTED = (TokenType.IDENTIFIER, TokenType.STRING, TokenType.NATIONAL_STRING)
_STARTS = (
    "ALTER BEGIN COMMIT COPY CREATE DBCC DELETE DENY DROP EXEC EXECUTE GRANT IF INSERT KILL MERGE PRINT RENAME REVOKE "
    "ROLLBACK SAVE SELECT SET TRUNCATE UPDATE USE WITH"
).split()


class _Tokenizer(TSQL.Tokenizer):
    #: Otherwise everything behind RENAME and EXEC would be one text.
    COMMANDS: frozenset[TokenType] = frozenset()


def _apart(token: Token, text: str) -> list[Token]:
    """Words that the tokenizer joined, such as PRIMARY KEY, one by one."""
    if token.token_type in _QUOTED or " " not in token.text:
        return [token]
    return [
        Token(TokenType.VAR, m[0], token.line, token.col, token.start + m.start(), token.start + m.end() - 1)
        for m in re.finditer(r"\S+", text[token.start : token.end + 1])
    ]


def tokenize(text: str) -> list[Token]:
    """The tokens of a batch, identifiers within the pool's limit."""
    try:
        found = [part for token in _Tokenizer().tokenize(text) for part in _apart(token, text)]
    except TokenError as error:
        raise parse_error(str(error).splitlines()[0][:60]) from error
    for token in found:
        if token.token_type in (TokenType.IDENTIFIER, TokenType.VAR) and len(token.text) > 128:
            raise SqlError(
                103, f"The identifier that starts with '{token.text[:128]}' is too long. Maximum length is 128.", 15, 4
            )
    return found


class Statement:
    """One statement: its text and a cursor over its tokens."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.at = 0

    def source(self, first: int = 0, last: int | None = None) -> str:
        """The text from one token to before another."""
        part = self.tokens[first:last]
        return self.text[part[0].start : part[-1].end + 1] if part else ""

    @property
    def left(self) -> bool:
        return self.at < len(self.tokens)

    def word(self, ahead: int = 0) -> str:
        """The coming token in capitals; empty for a quoted one and at the end."""
        index = self.at + ahead
        if index >= len(self.tokens) or self.tokens[index].token_type in _QUOTED:
            return ""
        return self.tokens[index].text.upper()

    def accept(self, *words: str) -> bool:
        """Pass these words if they come next. Words that the tokenizer joins, such as ORDER BY, are one word."""
        if all(self.word(i) == w for i, w in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        if not self.accept(*words):
            raise self.unexpected()

    def unexpected(self) -> SqlError:
        if not self.left:
            return parse_error("end of statement")
        token = self.tokens[self.at]
        return parse_error(token.text[:60], token.line, token.col)

    def end(self) -> None:
        """Nothing may follow."""
        if self.left:
            raise self.unexpected()

    def name(self) -> str:
        """An identifier, quoted or not."""
        if not self.left:
            raise self.unexpected()
        token = self.tokens[self.at]
        if token.token_type is TokenType.HASH:
            self.at += 1
            return "#" + self.name()
        if token.token_type is not TokenType.IDENTIFIER and not token.text.replace("_", "a").isalnum():
            raise self.unexpected()
        if token.token_type in (TokenType.STRING, TokenType.NATIONAL_STRING, TokenType.NUMBER):
            raise self.unexpected()
        self.at += 1
        return token.text

    def object_name(self) -> tuple[str, str]:
        """schema and name; dbo where there is none."""
        first = self.name()
        if self.accept("."):
            return first, self.name()
        return "dbo", first

    def string(self) -> str:
        if self.left and self.tokens[self.at].token_type in (TokenType.STRING, TokenType.NATIONAL_STRING):
            self.at += 1
            return self.tokens[self.at - 1].text
        raise self.unexpected()

    def number(self) -> int:
        if self.left and self.tokens[self.at].token_type is TokenType.NUMBER:
            self.at += 1
            return int(float(self.tokens[self.at - 1].text))
        raise self.unexpected()

    def value(self) -> str:
        """A string, a number or a word."""
        if not self.left:
            raise self.unexpected()
        self.at += 1
        return self.tokens[self.at - 1].text

    def options(self) -> dict[str, str | dict[str, str]]:
        """``( NAME = value, NAME = (NAME = value) )`` with names in capitals."""
        made: dict[str, str | dict[str, str]] = {}
        self.expect("(")
        while True:
            key = self.name().upper()
            if self.word() == "(":
                made[key] = {k: str(v) for k, v in self.options().items()}
            else:
                self.expect("=")
                made[key] = {k: str(v) for k, v in self.options().items()} if self.word() == "(" else self.value()
            if not self.accept(","):
                break
        self.expect(")")
        return made

    def type(self, column: str = "") -> SqlType:
        """A declared type with its collation."""
        name = self.name()
        if name.lower() == "double" and self.accept("PRECISION"):
            name = "float"
        arguments = []
        if self.accept("("):
            arguments.append(self.value())
            while self.accept(","):
                arguments.append(self.value())
            self.expect(")")
        if name.lower() == "float" and arguments:
            name, arguments = ("float" if int(arguments[0]) > 24 else "real"), []
        made = make_type(name, arguments, column)
        return with_collation(made, self.name() if self.accept("COLLATE") else None)

    def take_label(self) -> str | None:
        """Cut ``OPTION (LABEL = '...')`` off the end and answer the label; other hints are refused."""
        for index, token in enumerate(self.tokens):
            if token.text.upper() != "OPTION" or token.token_type in _QUOTED:
                continue
            if index + 1 < len(self.tokens) and self.tokens[index + 1].text == "(":
                tail = Statement(self.text, self.tokens[index:])
                tail.expect("OPTION", "(", "LABEL", "=")
                label = tail.string()
                tail.expect(")")
                tail.end()
                if len(label) > 255:
                    raise SqlError(104467, "A label may have 255 characters.")
                self.tokens = self.tokens[:index]
                return label
        return None


def split(text: str) -> list[Statement]:
    """The statements of a batch: parted by semicolons, and where a SET or a transaction word ends by itself."""
    made: list[Statement] = []
    current: list[Token] = []
    depth = 0
    for token in tokenize(text):
        word = "" if token.token_type in _QUOTED else token.text.upper()
        if word == ";" and depth == 0:
            if current:
                made.append(Statement(text, current))
            current = []
            continue
        first = current[0].text.upper() if current else ""
        alone = first in ("SET", "COMMIT", "ROLLBACK") or (first == "BEGIN" and depth == 0)
        if alone and depth == 0 and word in _STARTS and not (first == "SET" and current[-1].text.upper() == "SET"):
            made.append(Statement(text, current))
            current = []
        if word in ("CASE",) or (word == "BEGIN"):
            depth += 1
        elif (word in ("TRAN", "TRANSACTION") and current and current[-1].text.upper() == "BEGIN") or (
            word == "END" and depth
        ):
            depth -= 1
        current.append(token)
    if current:
        made.append(Statement(text, current))
    return made


def starts_statement(word: str) -> bool:
    return word in _STARTS
