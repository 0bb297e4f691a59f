"""The pages that a reader sees, taken apart: fenced blocks, links, anchors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^ *(```+)([\w-]*)\s*$")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"|^\[[^\]]+\]: (\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$")
_ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


class Block(NamedTuple):
    """A fenced block. line: of its opening fence, from 1. language: as the fence says, "" for none."""

    page: Path
    line: int
    language: str
    text: str


def pages(repository: Path) -> list[Path]:
    """README, the notes beside it, and everything below docs/."""
    beside = [repository / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*beside, *sorted((repository / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order. A fence that is never closed is an error."""
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, lines = (number, fence[1], fence[2]), []
        elif opened is not None and fence and fence[1] == opened[1] and not fence[2]:
            yield Block(page, opened[0], opened[2], "\n".join(lines) + "\n")
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"{page}, line {opened[0] if opened else 0}: this block is never closed"


def prose(page: Path) -> str:
    """The page without its fenced blocks and without code in its lines."""
    text, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            text.append(_CODE.sub("", line))
    return "\n".join(text)


def links(page: Path) -> list[str]:
    """Every target that the page links to or shows."""
    return ["".join(found) for found in _LINK.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """What can stand behind # in a link to the page, as GitHub makes it of headings."""
    inside, found, seen = False, set(), Counter[str]()
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        heading = None if inside else _HEADING.match(line)
        if heading:
            slug = slug_of(heading[1])
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        found.update(_ANCHOR.findall(line))
    return found


def slug_of(heading: str) -> str:
    """GitHub's anchor of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def dead_links(page: Path, root: Path) -> list[str]:
    """Links of a page that lead nowhere, each with the reason. Addresses on the web are not asked for."""
    problems = []
    for target in links(page):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if target.startswith(("http://", "/")):
            problems.append(f"{target}: neither https nor relative")
        elif not file.is_relative_to(root.resolve()):
            problems.append(f"{target}: leads out of the repository")
        elif not file.is_file():
            problems.append(f"{target}: no such file")
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            problems.append(f"{target}: {file.name} has no #{anchor}")
    return problems
