"""Texts as exact numbers: what they are, how they were written, and what is no number."""

from __future__ import annotations

from fractions import Fraction

import pytest

from latentthought.grading.normalization.numbers import Number, decimal_comma, number


@pytest.mark.parametrize(
    ("text", "value", "decimals"),
    [
        ("18", 18, None),
        ("-18", -18, None),
        ("+7", 7, None),
        ("007", 7, None),
        ("18.50", Fraction(37, 2), 2),
        (".5", Fraction(1, 2), 1),
        ("1,234.5", Fraction(2469, 2), 1),
        ("1 234 567", 1234567, None),
        ("1,00,000", 100000, None),
        ("1'234", 1234, None),
        ("1.234,56", Fraction(30864, 25), 2),
        ("3,05", Fraction(61, 20), 2),
        (r"\frac{-3}{4}", Fraction(-3, 4), None),
        ("3 1/2", Fraction(7, 2), None),
        ("-3 1/2", Fraction(-7, 2), None),
        ("1.2e5", 120000, None),
        (r"1.5 \times 10^{3}", 1500, None),
        ("10^5", 100000, None),
        (r"0.1\overline{6}", Fraction(1, 6), None),
        ("0.(3)", Fraction(1, 3), None),
        ("0.333...", Fraction(1, 3), None),
        ("0.1666…", Fraction(1, 6), None),
        (r"0.142857142857\ldots", Fraction(1, 7), None),
        (r"0.\dot3", Fraction(1, 3), None),
        (r"0.\dot{1}4285\dot{7}", Fraction(1, 7), None),
        ("3.14159...", Fraction("3.14159"), 5),
        ("2.718281828...", Fraction("2.718281828"), 9),  # 1828 comes twice, by chance
        ("1.2k", 1200, None),
        ("$1.2K", 1200, None),
        ("1.234.567", 1234567, None),
        ("3 out of 10", Fraction(3, 10), None),
        ("2.5 million", 2500000, None),
        ("2 dozen eggs", 24, None),
        ("5万", 50000, None),
        ("5th", 5, None),
        ("three quarters", Fraction(3, 4), None),
    ],
)
def test_value(text: str, value: int | Fraction, decimals: int | None) -> None:
    found = number(text)
    assert found is not None
    assert found.value == value
    if decimals is not None:
        assert found.decimals == decimals


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "5x",
        "5!",
        "1/0",
        "3,5",
        "3+4i",
        "1E999999999",
        "9" * 401,
        "5 or 6",
        "sqrt(2)",
        "1 2",
        "(1",
        "2 sin x",
        "-",
        "\0",
    ],
)
def test_no_number(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("50%", 50, "percent"),
        ("$1,234.50", Fraction(2469, 2), "dollar"),
        ("3,50 €", Fraction(7, 2), "euro"),
        ("5 ft 6 in", 66, "inch"),
        ("2 hours and 30 minutes", 150, "minute"),
        ("3/4 of a cup", Fraction(3, 4), "cup"),
        ("1010_2", 1010, "base 2"),
        ("18元", 18, "yuan"),
    ],
)
def test_with_unit(text: str, value: int | Fraction, unit: str) -> None:
    found = number(text)
    assert found is not None
    assert found.value == value
    assert found.unit == ("" if unit == "percent" else unit)
    assert found.percent == (unit == "percent")


def test_decimal_comma_is_a_second_reading() -> None:
    assert decimal_comma("3,5") == Number(Fraction(7, 2), 1)
    assert decimal_comma("3.5") is None
    assert decimal_comma("3, 5") is None
    assert decimal_comma("1,2,3") is None


def test_is_integer() -> None:
    assert [number(text).is_integer for text in ("5", "5.0", "10/2", "1/2")] == [True, False, True, False]  # type: ignore[union-attr]
