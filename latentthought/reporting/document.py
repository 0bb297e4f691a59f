"""A document as a list of blocks, written as Markdown and as one HTML page that needs nothing else.

A report says what it contains once; both forms are made from it and cannot drift apart. Whatever comes from a model, a data row
or a file is text, never markup: it is escaped where a block is written, and control characters are made visible.
Rejected: Markdown turned into HTML (a dependency, and two escapings), a template engine, scripts for charts (a page should
still open in ten years, from a mail, on a phone).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentthought.reporting.charts import Bar, bars
from latentthought.reporting.escaping import safe, visible
from latentthought.reporting.style import SHADES, STYLE

_MARK_OF_ITEM = re.compile(r"^(\d*)([-+.)])(?=\s|$)")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~$&])")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading below the title; level 2 or deeper."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `strong` for the one figure that a report is about."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list of short texts."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Lines:
    """Text as it is, line by line: a completion, a command, settings."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts. left: how many of the first columns hold words; the rest hold numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True, slots=True)
class Bars:
    """Values with their intervals as bars. In Markdown a table of names, numbers and notes under these headings; without
    headings left out there, where a table beside them holds the numbers."""

    bars: Sequence[Bar]
    headings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """A finding: a word for how serious it is, what it is, what to do about it."""

    level: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file beside the page; path relative to it."""

    path: str
    alternative: str


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks that are folded away under a summary."""

    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Shaded:
    """Words with a background as dark as their weight, a share of 1; the darkest is `most`. In Markdown nothing: a text beside it
    has to name the numbers that matter, which colour alone tells nobody."""

    words: Sequence[tuple[str, float]]
    most: float = 1.0


@dataclass(frozen=True, slots=True)
class Beside:
    """Two lists of blocks side by side, where the screen is wide enough."""

    left: Sequence[Block]
    right: Sequence[Block]


Block = Heading | Text | Items | Lines | Table | Bars | Notice | Picture | Details | Shaded | Beside


def write_document(
    title: str, blocks: Sequence[Block], folder: Path, name: str = "report"
) -> tuple[Path, Path]:
    """Write `NAME.md` and `NAME.html` into a folder, each whole or not at all; returns both paths."""
    return (
        write_text(folder / f"{name}.md", to_markdown(title, blocks)),
        write_text(folder / f"{name}.html", to_html(title, blocks)),
    )


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", errors="replace")
    return temporary.replace(path)


# ------------------------------------------------------------------------------------------------------------ Markdown
def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown (GitHub's: tables, and `<details>` for what is folded away)."""
    return "\n\n".join(part for part in (f"# {_plain(title)}", *map(_markdown, blocks)) if part) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_plain(block.text)}"
        case Text():
            return f"**{_plain(block.text)}**" if block.strong else _plain(block.text)
        case Items():
            return "\n".join(f"- {_plain(item)}" for item in block.items)
        case Lines():
            # four spaces make a block that no text can break out of; the comment ends a list that stands before it
            return "<!-- -->\n\n" + "\n".join(
                "    " + line for line in visible(block.text).splitlines() or [""]
            )
        case Table():
            rules = ["---" if place < block.left else "---:" for place in range(len(block.headings))]
            lines = [[*map(_plain, block.headings)], rules, *([*map(_plain, row)] for row in block.rows)]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
        case Bars():
            rows = [(bar.name, bar.text, bar.note)[: len(block.headings)] for bar in block.bars]
            return _markdown(Table(block.headings, rows)) if block.headings else ""
        case Notice():
            advice = f" *{_plain(block.advice)}*" if block.advice else ""
            return f"- **{_plain(block.level)}**: {_plain(block.text)}{advice}"
        case Picture():
            return f"![{_plain(block.alternative)}]({block.path})"
        case Details():
            inside = "\n\n".join(part for part in map(_markdown, block.blocks) if part)
            summary = safe(block.summary)
            return f"<details>\n<summary>{summary}</summary>\n\n{inside}\n\n</details>"
        case Shaded():
            return ""
        case Beside():
            return "\n\n".join(part for part in map(_markdown, (*block.left, *block.right)) if part)


def _plain(text: str) -> str:
    """One line of text in which no character is Markdown."""
    line = _MARKDOWN.sub(r"\\\1", " ".join(visible(text).split()))
    return _MARK_OF_ITEM.sub(r"\1\\\2", line)


# ---------------------------------------------------------------------------------------------------------------- HTML
def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page: no script, no network, light and dark, wide and narrow."""
    body = "\n".join(map(_html, blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{safe(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{safe(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{safe(block.text)}</h{block.level}>"
        case Text():
            return f'<p class="key">{safe(block.text)}</p>' if block.strong else f"<p>{safe(block.text)}</p>"
        case Items():
            return "<ul>" + "".join(f"<li>{safe(item)}</li>" for item in block.items) + "</ul>"
        case Lines():
            return f'<pre dir="auto">{safe(block.text)}</pre>'
        case Table():
            return _html_table(block)
        case Bars():
            return bars(block.bars)
        case Notice():
            advice = f"<br><span>{safe(block.advice)}</span>" if block.advice else ""
            return f'<p class="notice {safe(block.level)}"><b>{safe(block.level)}</b> {safe(block.text)}{advice}</p>'
        case Picture():
            return f'<img src="{safe(block.path)}" alt="{safe(block.alternative)}">'
        case Details():
            inside = "\n".join(map(_html, block.blocks))
            return f"<details>\n<summary>{safe(block.summary)}</summary>\n{inside}\n</details>"
        case Shaded():
            return _html_shaded(block)
        case Beside():
            sides = ("\n".join(map(_html, side)) for side in (block.left, block.right))
            return '<div class="beside">\n' + "\n".join(f"<div>{side}</div>" for side in sides) + "\n</div>"


def _html_shaded(block: Shaded) -> str:
    def word(text: str, weight: float) -> str:
        shade = min(SHADES, round(SHADES * weight / block.most)) if block.most > 0 else 0
        return f'<i class="s{shade}">{safe(text)}</i>' if shade else f"<i>{safe(text)}</i>"

    return f'<p class="shaded" dir="auto">{"".join(word(*each) for each in block.words)}</p>'


def _html_table(table: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        classes = ["" if place < table.left else ' class="n"' for place in range(len(row))]
        return "".join(f"<{tag}{kind}>{safe(cell)}</{tag}>" for cell, kind in zip(row, classes, strict=True))

    rows = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    head = f"<thead><tr>{cells(table.headings, 'th')}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>\n{rows}\n</tbody></table></div>'
