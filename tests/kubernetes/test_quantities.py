"""Kubernetes' quantities are read exactly, and nothing else is taken for one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.kubernetes.quantities import MAX_BINARY, NANO, SUFFIXES, parse, write


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("4", 4),
        ("+4", 4),
        ("-1", -1),
        ("1500m", Fraction(3, 2)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("250u", Fraction(1, 4000)),
        ("1n", Fraction(1, 10**9)),
        ("16Gi", 16 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("1Ki", 1024),
        ("1k", 1000),
        ("100M", 10**8),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12e-1", Fraction(6, 5)),
        # Kubernetes' own parser has no bounds for digits and decimal exponents.
        ("1e400", 10**400),
        ("1E+400", 10**400),
        ("1" * 50, int("1" * 50)),
        ("0." + "0" * 7 + "1" + "0" * 50, Fraction(1, 10**8)),
        ("9" * 1000, int("9" * 1000)),
        # It rounds to a nano, away from zero.
        ("0.1n", Fraction(1, 10**9)),
        ("-1.5n", Fraction(-2, 10**9)),
        ("1e-400", Fraction(1, 10**9)),
        ("0e-400", 0),
        # It takes what is too large for 64 bits, with a binary suffix, for the largest number.
        ("8Ei", 2**63 - 1),
        ("-8Ei", 1 - 2**63),
        ("9Pi", 9 * 2**50),
        ("10E", 10**19),
    ],
)
def test_a_quantity_is_the_number_that_it_stands_for(text: str, number: Fraction) -> None:
    assert parse(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "m", "Gi", ".", "1 Gi", " 1", "1\n", "1K", "1ki", "1mi", "1Gib", "1e", "1e1000"),
        *("1e3Gi", "--1", "1,000", "0x10", "٣", "1" * 1001, "NaN", "inf"),
        *("1gi", "1.2.3", "1e9999", "Container"),
    ],
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse(text)


@given(st.integers(0, 10**12), st.sampled_from(sorted(SUFFIXES)))
def test_a_suffix_multiplies(number: int, suffix: str) -> None:
    product = number * SUFFIXES[suffix]
    assert parse(f"{number}{suffix}") == (min(product, MAX_BINARY) if "i" in suffix else product)


@pytest.mark.parametrize(
    ("text", "other"),
    [("500m", "0.5"), ("1024Gi", "1Ti"), ("1000", "1k"), ("1e3", "1000"), ("2E", "2000P"),
     ("1.5Gi", "1536Mi"), ("100n", "0.1u"), ("+1", "1"), ("1E3", "1000"), ("1Ei", "1024Pi")],
)  # fmt: skip
def test_a_quantity_has_many_spellings(text: str, other: str) -> None:
    assert parse(text) == parse(other)


@given(st.integers(0, 10**6))
def test_a_thousand_of_a_thousandth_is_one(number: int) -> None:
    assert parse(f"{number * 1000}m") == parse(f"{number}") == parse(f"{number * 10**9}n")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(3, 2), "1.5"),
        (Fraction(1, 3), "0.33"),
        (Fraction(100), "100"),
        (Fraction(12_000), "12,000"),
        (Fraction(1, 10**9), "less than 0.01"),
        (Fraction(10**15 - 1), "999,999,999,999,999"),
        (Fraction(10**15), "1.00e+15"),
        (Fraction(10**400), "1.00e+400"),
        (Fraction(-(10**400)), "-1.00e+400"),
        (parse(f"{'9' * 1000}e999") / NANO, "1.00e+2008"),
    ],
)
def test_a_number_is_written_for_people(number: Fraction, text: str) -> None:
    assert write(number) == text
