"""The error tree: every class says whom it concerns, whether to try again, and what to do next."""

from __future__ import annotations

import re

import pytest

from novade_core import errors
from novade_core.errors import NovadeError, RetryableError


def tree(root: type[NovadeError]) -> list[type[NovadeError]]:
    return [root, *(c for child in root.__subclasses__() for c in tree(child) if c.__module__ == errors.__name__)]


CLASSES = [c for c in tree(NovadeError) if c.__module__ == errors.__name__]


def test_the_documented_tree_is_the_real_one():
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^ *([│ ]*)(?:├── |└── )(\w+)", line)
        if found:
            drawn.append((1 if not found[1] else 2, found[2]))
    real = [(c.__mro__.index(NovadeError), c.__name__) for c in CLASSES if c is not NovadeError]
    assert sorted(drawn) == sorted(real)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_one_sentence_with_a_next_step_and_an_origin(kind):
    error = kind("Something happened to it.")
    assert str(error) == error.message == "Something happened to it."
    assert error.hint.endswith((".", "`", "--full"))
    assert error.origin_of_fault in ("source", "landing", "warehouse", "us")
    assert error.kind == kind.__name__
    assert error.retryable == issubclass(kind, RetryableError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES)
def test_hint_and_origin_can_be_told(kind):
    error = kind("x", hint="Do this.", origin="landing")
    assert (error.hint, error.origin_of_fault) == ("Do this.", "landing")
    assert kind("x").origin_of_fault == kind.origin


def test_a_retryable_error_knows_how_long_to_wait_or_does_not():
    assert RetryableError("x").retry_after is None
    assert errors.RateLimited("x", retry_after=30).retry_after == 30
