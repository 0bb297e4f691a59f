"""Units: taken off, spelled in one way, compared, converted."""

from __future__ import annotations

from fractions import Fraction

import pytest

from latentthought.grading.normalization.plain import normalize
from latentthought.grading.normalization.units import compatible, factor, split_unit


@pytest.mark.parametrize(
    ("text", "core", "unit"),
    [
        ("12 pi square inches", "12 pi", "square inch"),
        ("5cm", "5", "centimeter"),
        ("5 sq. ft.", "5", "square foot"),
        ("5 cm²", "5", "square centimeter"),
        (r"12\pi\text{ cm}^3", r"12\pi", "cubic centimeter"),
        ("5 m/s^2", "5", "meter per square second"),
        ("5 meters per second squared", "5", "meter per square second"),
        ("60 mph", "60", "mile per hour"),
        ("-$5", "-5", "dollar"),
        ("$5 per day", "5", "dollar per day"),
        ("5€", "5", "euro"),
        ("Rs. 500", "500", "rupee"),
        ("50% of the students", "50", "percent"),
        ("45°C", "45", "degree celsius"),
        ("5 red marbles", "5", "red marble"),
        ("5 people", "5", "person"),
        ("12 个苹果", "12", "个苹果"),
        ("sqrt(3) cm", "sqrt(3)", "centimeter"),
        ("x dollars", "x", "dollar"),
        ("11:30 AM", "11:30", "am"),
        ("2A_{16}", "2A", "base 16"),
        ("8-hour", "8", "hour"),
        (r"\frac{25\sqrt{3}}{4}\ \text{cm}^2", "(25sqrt(3))/4", "square centimeter"),
        (r"1500\ \text{kg}\cdot\text{m}^2", "1500", "kilogram square meter"),
        (r"3\text{ m s}^{-1}", "3", "meter per second"),
        (r"5\ \Omega", "5", "ohm"),
        ("3 m^2", "3", "square meter"),
        ("3s^2", "3s^2", ""),
        ("3 s^2", "3 s^2", ""),
        ("5g^3", "5g^3", ""),
        ("3 s^-1", "3 s^-1", ""),
        (r"5\omega", r"5\omega", ""),
        ("B, C", "B, C", ""),
        ("5x", "5x", ""),
        ("5 i", "5 i", ""),
        ("2 sin x", "2 sin x", ""),
        ("x and y", "x and y", ""),
        ("the dog", "the dog", ""),
        ("5 squared", "5 squared", ""),
        ("5万", "5万", ""),
        ("", "", ""),
    ],
)
def test_split(text: str, core: str, unit: str) -> None:
    assert split_unit(normalize(text)) == (core, unit)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("", "meter", True),
        ("square unit", "square inch", True),
        ("unit", "square inch", False),
        ("red marble", "marble", True),
        ("dollar", "dollar per day", True),
        ("mile", "mile per hour", False),
        ("inch", "square inch", False),
        ("apple", "orange", False),
        ("am", "pm", False),
        ("个苹果", "apple", True),
        ("dollar", "euro", False),
    ],
)
def test_compatible(a: str, b: str, expected: bool) -> None:
    assert compatible(a, b) is compatible(b, a) is expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("hour", "minute", 60),
        ("minute", "hour", Fraction(1, 60)),
        ("square foot", "square inch", 144),
        ("kilometer per hour", "meter per second", Fraction(5, 18)),
        ("dollar", "cent", 100),
        ("year", "month", 12),
        ("meter", "second", None),
        ("meter", "square meter", None),
        ("apple", "orange", None),
    ],
)
def test_factor(a: str, b: str, expected: int | Fraction | None) -> None:
    assert factor(a, b) == expected
