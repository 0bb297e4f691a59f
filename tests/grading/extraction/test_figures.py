"""Numbers in sentences as the language of the sentence writes them."""

from __future__ import annotations

import pytest

from latentthought.grading import grade
from latentthought.grading.extraction.figures import plain_figures


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("La longueur du côté est donc 2,5 mètres.", "La longueur du côté est donc 2.5 mètres."),
        ("Le prix s'élève à 1 250,50 €.", "Le prix s'élève à 1250.50 €."),
        ("El total es de 1.250,50 euros.", "El total es de 1250.50 euros."),
        ("Der Umfang beträgt 12,5 cm.", "Der Umfang beträgt 12.5 cm."),
        ("Площадь равна 2,5.", "Площадь равна 2.5."),
        ("कुल लागत 1,00,000 रुपये है।", "कुल लागत 100000 रुपये है।"),
        ("So she pays ₹12,34,567.", "So she pays ₹1234567."),
        ("القيمة هي ٢٫٥", "القيمة هي ٢.٥"),
        # left alone: lists, points, formulas, English
        ("Les solutions sont 2, 3 et 5.", "Les solutions sont 2, 3 et 5."),
        ("Le point est (2,5).", "Le point est (2,5)."),
        ("La solution est $2,5$.", "La solution est $2,5$."),
        ("The roots are 2,5 and the cost is 1,250.", "The roots are 2,5 and the cost is 1,250."),
        ("there are 3 250 of them", "there are 3 250 of them"),
    ],
)
def test_plain_figures(text: str, plain: str) -> None:
    assert plain_figures(text) == plain
    assert plain_figures(plain) == plain


@pytest.mark.parametrize(
    ("text", "gold", "other"),
    [
        ("Le prix total s'élève à 1 250 €.", "1250", "250"),
        ("Donc il reste 3,5 litres.", "3.5", "5"),
        ("Elle paie 12,50 €.", "12.5", "50"),
        ("总共是1,250元。", "1250", "250"),
        ("कीमत ₹1,25,000 है।", "125000", "25000"),
    ],
)
def test_whole_numbers_are_found(text: str, gold: str, other: str) -> None:
    assert grade(text, gold).correct, grade(text, gold)
    assert grade(text, other).status == "wrong"
