"""Write a line's contract as two suites of Great Expectations: one judges rows, one what is left of the batch."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import great_expectations.expectations as gxe
from great_expectations import ExpectationSuite
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity

from recsys.columns import EVENT, ITEM, KEYS, RELEASE, TIME, USER
from recsys.settings import Column, Feedback

UNKNOWN = "_unknown_item"
"""Column beside the batch's own: 1 where the feedback table does not have the item yet, else 0."""

LONGEST_ID = 256  # characters
FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)

_TYPES = {"number": "float", "integer": "int", "category": "str"}  # as pandas says of Arrow's types
_KEY_TYPES = {EVENT: "str", USER: "str", ITEM: "str", TIME: "datetime", RELEASE: "str"}


def rows(feedback: Feedback, as_of: datetime) -> ExpectationSuite:
    """Say what must hold of the columns and of every single row; a row that breaks it is refused.

    Args:
        feedback: The line's contract.
        as_of: The moment of the batch; what happened later than that comes from a wrong clock.
    """
    future = as_of + timedelta(minutes=feedback.max_future_minutes)
    at_most = f"{_said(feedback.max_future_minutes)} minutes after the batch"
    types = _KEY_TYPES | {name: _TYPES[column.type] for name, column in feedback.columns.items()}
    return ExpectationSuite(
        name="rows",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(
                column_set=list(types), exact_match=True, description="the columns must be those of the line"
            ),
            *(
                gxe.ExpectColumnValuesToBeOfType(column=name, type_=kind, description=f"{name} must be of type {kind}")
                for name, kind in types.items()
            ),
            *(_given(name) for name in KEYS),
            gxe.ExpectColumnValuesToBeUnique(
                column=EVENT, description=f"{EVENT} must not stand for several different events"
            ),
            *(
                gxe.ExpectColumnValueLengthsToBeBetween(
                    column=name,
                    min_value=1,
                    max_value=LONGEST_ID,
                    description=f"{name} must have 1 to {LONGEST_ID} characters",
                )
                for name in (EVENT, USER, ITEM, RELEASE)
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column=TIME,
                min_value=FIRST_MOMENT,
                max_value=future,
                description=f"{TIME} must lie between 1970 and {at_most}",
            ),
            *(expectation for name, column in feedback.columns.items() for expectation in _of_column(name, column)),
        ],
    )


def batch(feedback: Feedback, as_of: datetime, *, items_known: bool) -> ExpectationSuite:
    """Say what must hold of the rows that are left, taken together.

    Too few of them refuse the batch. Old events and many unknown items are warnings: they may well be true.

    Args:
        feedback: The line's contract.
        as_of: The moment of the batch; freshness counts from it.
        items_known: Whether there are items to compare with; in the first batch everything is new.
    """
    freshest = as_of - timedelta(days=feedback.freshness_days)
    oldest = f"{_said(feedback.freshness_days)} days older than the batch"
    unknown = gxe.ExpectColumnMeanToBeBetween(
        column=UNKNOWN,
        max_value=feedback.max_unknown_item_share,
        severity=FailureSeverity.WARNING,
        description=f"at most a share of {_said(feedback.max_unknown_item_share)} may be on items never seen before",
    )
    return ExpectationSuite(
        name="batch",
        expectations=[
            gxe.ExpectTableRowCountToBeBetween(
                min_value=feedback.min_batch_rows, description=f"at least {feedback.min_batch_rows} rows must be left"
            ),
            gxe.ExpectColumnMaxToBeBetween(
                column=TIME,
                min_value=freshest,
                severity=FailureSeverity.WARNING,
                description=f"the newest event must be at most {oldest}",
            ),
            *([unknown] if items_known else []),
        ],
    )


def _given(name: str) -> Expectation:
    return gxe.ExpectColumnValuesToNotBeNull(column=name, description=f"{name} must be given")


def _of_column(name: str, column: Column) -> Iterator[Expectation]:
    if not column.nullable:
        yield _given(name)
    if column.values:
        yield gxe.ExpectColumnValuesToBeInSet(
            column=name,
            value_set=list(column.values),
            description=f"{name} must be one of {', '.join(column.values)}",
        )
    if column.type == "number" or column.min is not None or column.max is not None:
        largest = sys.float_info.max  # so that an infinity is out of every range
        yield gxe.ExpectColumnValuesToBeBetween(
            column=name,
            min_value=-largest if column.min is None else column.min,
            max_value=largest if column.max is None else column.max,
            description=f"{name} must {_range(column)}",
        )


def _range(column: Column) -> str:
    """Word the range that a column's values must keep to.

    >>> [_range(Column(role="label", type="number", **ends)) for ends in ({}, {"min": 0}, {"max": 2.5})]
    ['be finite', 'be finite and at least 0', 'be finite and at most 2.5']
    >>> _range(Column(role="label", type="integer", min=-1, max=12345678))
    'lie between -1 and 12345678'
    """
    if column.min is not None and column.max is not None:
        return f"lie between {_said(column.min)} and {_said(column.max)}"
    words = ["finite"] if column.type == "number" else []
    words += [f"at least {_said(column.min)}"] if column.min is not None else []
    words += [f"at most {_said(column.max)}"] if column.max is not None else []
    return f"be {' and '.join(words)}"


def _said(number: float) -> str:
    """Print a number of the line's file as it is written there.

    >>> [_said(number) for number in (0.0, 0.1, 1234567.25)]
    ['0', '0.1', '1234567.25']
    """
    return f"{number:.15g}"
