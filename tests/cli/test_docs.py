"""What README and docs tell a reader to type parses, and what they name exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from latentthought.cli.commands import COMMANDS
from latentthought.cli.parser import Parser
from latentthought.data.curriculum import Curriculum
from latentthought.data.sources.catalog import SOURCES
from latentthought.resources import list_recipes


def pages(repository: Path) -> list[Path]:
    return [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]


def test_commands_in_the_docs_parse(repository: Path) -> None:
    seen = 0
    for page in pages(repository):
        blocks = re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        lines = [
            line.partition(" #")[0].partition(" > ")[0] for block in blocks for line in block.splitlines()
        ]
        for line in lines:
            if not line.startswith("latentthought "):
                continue
            name, *arguments = shlex.split(line)[1:]
            assert name in COMMANDS, line
            module = importlib.import_module(f"latentthought.cli.{name.replace('-', '_')}")
            parser = Parser(name, module.DESCRIPTION)
            module.add_arguments(parser)
            parser.read(arguments)
            seen += 1
    assert seen > 12


def test_readme_lists_the_recipes(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    first = re.findall(r"^\| (`[^|]+`) \|", text.partition("## Recipes")[2], re.MULTILINE)
    named = {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}
    assert named == {name for name in list_recipes() if not name.startswith("quickstart-")}


def test_links_lead_somewhere(repository: Path) -> None:
    for page in pages(repository):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), (page.name, target)


def test_curricula_in_the_docs_are_valid(repository: Path) -> None:
    text = (repository / "docs" / "recipes.md").read_text(encoding="utf-8")
    lines = [line.partition("  #")[0] for line in text.splitlines() if line.startswith("curriculum: {")]
    assert len(lines) == 7
    for line in lines:
        Curriculum.parse(yaml.safe_load(line)["curriculum"])
    listed = text.split("Sources: ")[1].split(":\n")[0]
    assert set(re.findall(r"`([\w-]+)`", listed)) == set(SOURCES)


@pytest.mark.parametrize("name", ["quickstart", "test"])
def test_the_two_commands_of_the_readme_are_in_the_makefile(name: str, repository: Path) -> None:
    assert f"make {name}" in (repository / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^{name}:", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
