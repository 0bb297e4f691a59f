"""What README and docs say of recipes, sources and speed is what is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from latentthought.data.curriculum import Curriculum
from latentthought.data.sources.catalog import SOURCES
from latentthought.resources import list_recipes
from tests.docs.pages import links, pages


def text_of(repository: Path, name: str) -> str:
    return (repository / name).read_text(encoding="utf-8")


def test_all_recipes_are_listed(repository: Path) -> None:
    table = text_of(repository, "docs/recipes.md").partition("## Shipped recipes")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    named = {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}
    assert named == {name for name in list_recipes() if not name.startswith("quickstart-")}


def test_every_recipe_has_a_method_page(repository: Path) -> None:
    """But for the quickstart's, which the first look and several pages tell of."""
    pages = (repository / "docs" / "methods").glob("*.md")
    linked = {
        Path(target).as_posix().removeprefix("../../recipes/").removesuffix(".yaml")
        for page in pages
        for target in links(page)
        if target.startswith("../../recipes/")
    }
    left_out = {name for name in list_recipes() if name not in linked}
    assert {name for name in left_out if not name.startswith("quickstart")} == set()


def test_curricula_in_the_docs_are_valid(repository: Path) -> None:
    text = text_of(repository, "docs/recipes.md")
    lines = [line.partition("  #")[0] for line in text.splitlines() if line.startswith("curriculum: {")]
    assert len(lines) == 7
    for line in lines:
        Curriculum.parse(yaml.safe_load(line)["curriculum"])
    listed = text.split("Sources: ")[1].split(":\n")[0]
    assert set(re.findall(r"`([\w-]+)`", listed)) == set(SOURCES)


@pytest.mark.parametrize("name", ["quickstart", "test"])
def test_the_two_commands_of_the_readme_are_in_the_makefile(name: str, repository: Path) -> None:
    assert f"make {name}" in text_of(repository, "README.md")
    assert re.search(rf"^{name}:", text_of(repository, "Makefile"), re.MULTILINE)


@pytest.mark.parametrize(
    ("said", "measured", "value"),
    [
        (
            r"([\d.]+) times as fast as the published Coconut program",
            r"latentthought, sequential: speed over Coconut [^\n]*? ([\d.]+), wanted",
            lambda ratio: ratio,
        ),
        (
            r"([\d.]+) times as many tokens",
            r"latentthought generate: speed over Coconut [^\n]*? ([\d.]+), wanted",
            lambda ratio: ratio,
        ),
        (
            r"([\d.]+) times the speed of sixteen copies",
            r"latentthought generate: time over the batch of copies ([\d.]+), wanted",
            lambda share: 1 / share,
        ),
        (
            r"in ([\d.]+) % of the memory of whole logits",
            r"latentthought: head trained: extra memory over the plain form's ([\d.]+), wanted",
            lambda share: 100 * share,
        ),
        (r"agrees with ([\d.]+) % of 338", r"333 of 338 \(([\d.]+) %\)", lambda share: share),
        (r"math-verify: ([\d.]+) % of them", r"audit: all \| 338 .*? ([\d.]+)% \| 24", lambda share: share),
    ],
    ids=["step", "generate", "samples", "divergence", "grading", "math-verify"],
)
def test_the_readme_says_what_was_measured(
    said: str, measured: str, value: Callable[[float], float], repository: Path
) -> None:
    """It rounds what docs/performance.md has, and a table that is written anew may not leave it behind."""
    [claim] = re.findall(said, text_of(repository, "README.md"))
    found = re.findall(measured, text_of(repository, "docs/performance.md"))
    assert float(claim) == pytest.approx(value(float(found[0])), rel=0.15)


def test_every_page_that_quotes_the_quickstart_has_its_newest_numbers(repository: Path) -> None:
    """Shares in the sentence of a link to the quickstart's results, or in the table that it announces."""
    results = text_of(repository, "docs/results.md").partition("## The quickstart on five seeds")[0]
    measured = set(re.findall(r"\d+\.\d", results))
    quoting = 0
    for page in pages(repository):
        # a published accuracy may stand in one sentence with ours
        for text in re.split(r"(?<!:)\n\n|\n\n(?!\|)|\n(?=- )|\. ", page.read_text(encoding="utf-8")):
            if "#the-quickstart)" in text:
                quoting += 1
                assert set(re.findall(r"(\d+\.\d) (?:%|to)", text)) <= measured, f"{page.name}: {text}"
    assert quoting >= 7
