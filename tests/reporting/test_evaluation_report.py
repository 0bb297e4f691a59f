"""The report of an evaluation: its numbers, its escaping, and that nothing makes it fail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from latentthought.evaluation.contamination import Contamination
from latentthought.evaluation.results import Results
from latentthought.evaluation.samples import Sample
from latentthought.evaluation.tables import signed
from latentthought.reporting.charts import Bar, bars
from latentthought.reporting.document import (
    Details,
    Heading,
    Items,
    Lines,
    Notice,
    Picture,
    Table,
    Text,
    to_html,
    to_markdown,
)
from latentthought.reporting.evaluation import write_report
from tests.judged import answered, by_control, judged, result, saved

EVIL = "</pre></details><script>alert(1)</script><img src=x onerror=y>| **x** \x00\u202e\ud800\n# heading\n- item"
VOID = {"meta", "img", "rect", "line", "br"}


class Checked(HTMLParser):
    """Tags in balance, and the names of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(page: str) -> Checked:
    """Parse a page; fail when it is not whole, runs something, or fetches something."""
    parser = Checked()
    parser.feed(page)
    assert parser.open == []
    assert not {"script", "iframe", "link", "object"} & parser.seen
    assert not [name for name in parser.attributes if name.startswith("on")]
    assert not re.search(r"https?://|url\(|@import", page)
    return parser


def report(folder: Path, results: Sequence[Results] | None = None) -> tuple[str, str]:
    markdown, page = write_report(folder, results)
    assert (markdown.name, page.name) == ("report.md", "report.html")
    assert not list(folder.glob("*.tmp"))
    checked(page.read_text("utf-8"))
    return markdown.read_text("utf-8"), page.read_text("utf-8")


def test_numbers(tmp_path: Path) -> None:
    results = by_control({"none": range(60), "no-thought": range(20), "shuffled": range(58)}, 100)
    markdown, page = report(tmp_path, list(results.values()))
    for text in (markdown, page):
        assert "60.0 % of 100 questions right (95 % interval 50.2 % to 69.1 %)" in text
        assert "20.0 % (13.3 to 28.9)" in text
        assert "+40.0 (" in text
        assert "answers from" not in text
    lost = results["no-thought"].against_none
    assert lost is not None
    line = (
        f"| no-thought | the delimiters with nothing between | {signed(lost)} | 40 | 0 | \\< 0.0001 | 100 |"
    )
    assert line in markdown
    assert page.count("<svg") == 3 + 2, "a bar for each control, and for each difference"
    assert 'x="0.00%" width="60.00%"' in page


def test_every_part(tmp_path: Path) -> None:
    samples = [
        replace(s, groups={"subject": "a|b" if i % 2 else "<i>c</i>"})
        for i in range(10)
        for s in judged(f"q{i}", "7", "7", "8", "7", rf"\boxed{{{i}}}")
    ]
    found = Contamination(
        words=13, rows=10, texts=5, overlapping=2, copied=1, share=0.2, ids={"q1": 1.0}, training="aug"
    )
    results = result(
        samples,
        contamination=found,
        settings={"thoughts": 6},
        recipe={"name": "a-recipe"},
        git={"commit": "c0ffee"},
    )
    results = results.replace(costs={**results.costs.dump(), "peak_memory": 3 << 29})
    saved(tmp_path, samples, results)
    markdown, page = report(tmp_path)
    for text in (markdown, page):
        for part in (
            "By subject",
            "Several samples",
            "How answers were found",
            "Contamination",
            "Examples",
            "c0ffee",
        ):
            assert part in text, part
        assert "1.5 GiB" in text
        assert "52.5 % of 40 answers to 10 questions right" in text
        assert "a-recipe" in text and "aug" in text
    assert "| a\\|b |" in markdown
    assert "&lt;i&gt;c&lt;/i&gt;" in page
    assert "<details>\n<summary>Wrong: 6 of" in page
    assert "| 4 | 100.0 % (72.2 to 100.0) | " in markdown


def test_what_a_model_wrote_is_text(tmp_path: Path) -> None:
    samples = [
        replace(s, id=f"- {EVIL}{i}", groups={EVIL: EVIL}) for i in range(3) for s in judged("q", EVIL, EVIL)
    ]
    results = result(samples, model=EVIL, task="sums")
    saved(tmp_path, samples, results.replace(model="m"))
    markdown, page = report(tmp_path, [results])
    assert "\x00" not in markdown + page and "\u202e" not in markdown + page
    assert r"\x00\u202e\ud800" in page
    for line in markdown.splitlines():
        assert line.startswith("    ") or not re.search(
            r"(?<!\\)<(script|img|/pre)|^\s*# heading|^- item", line
        ), line


@pytest.mark.parametrize(
    "samples",
    [
        [],
        answered([], 1),
        answered([0], 1),
        answered([], 30),
        answered(range(30), 30),
        [s for i in range(5) for s in judged(f"q{i}", "7", "")],
        [s for i in range(5) for s in judged(f"q{i}", "", "7")],
        judged("q", "7", "7", "8"),
        [*judged("a", "7", "7", "8", "9"), *judged("b", "7", "8")],
        judged("q", "7", "y" * 100_000),
    ],
    ids=[
        "nothing",
        "one wrong",
        "one right",
        "all wrong",
        "all right",
        "silent",
        "no gold",
        "one row",
        "uneven",
        "long",
    ],
)
def test_every_kind_of_run_renders(tmp_path: Path, samples: list[Sample]) -> None:
    results = result(samples)
    saved(tmp_path, samples, results)
    markdown, page = report(tmp_path)
    assert "nan" not in (markdown + page).lower().replace("finance", "")
    assert len(page) < 60_000


def test_a_large_run_is_a_small_page(tmp_path: Path) -> None:
    """Every row a group of its own, with long completions, ids and golds: a few of each are on the page."""
    long = "y " * 10_000
    samples = [
        replace(s, id=f"{i} {long}", gold=long, groups={"row": str(i)})
        for i in range(300)
        for s in judged("q", "7", "8")
    ]
    samples = [replace(s, completion=long) for s in samples]
    results = result(samples)
    saved(tmp_path, samples, results)
    markdown, page = report(tmp_path)
    assert "The 50 largest of 300" in markdown
    assert len(page) < 60_000 and len(markdown) < 60_000


def test_several_tasks_and_none(tmp_path: Path) -> None:
    rows = [
        *by_control({"none": range(9), "pause": range(3)}, 20).values(),
        result(answered([1], 3), task="other"),
    ]
    markdown, _ = report(tmp_path, rows)
    assert markdown.startswith("# sums, other: a-model\n")
    assert "\n## sums\n" in markdown and "\n## other\n" in markdown
    assert "| other | none | 33.3 % (" in markdown
    empty, _ = report(tmp_path / "empty", [])
    assert "There are no results here" in empty


def test_samples_are_found_beside_their_results(tmp_path: Path) -> None:
    folder = saved(tmp_path, answered([0], 3))
    for place in (folder, folder.parent, tmp_path / "results", tmp_path):
        assert "Wrong: 2 of 2" in report(place)[0]
    other = result(answered([0], 3), task="other")
    assert "Wrong" not in report(folder, [other])[0], "the samples of another task are not its examples"


def test_blocks_in_both_forms() -> None:
    blocks = [
        Heading("a_b", 3),
        Text("1. not an item"),
        Text("+ nor this", strong=True),
        Items(["<x>"]),
        Lines("one\n\n`two`"),
        Table(("k", "v"), [("a|b", "-1.0")]),
        Notice("note", "message", "advice"),
        Picture("p.png", "a ] b"),
        Details("<more>", [Text("inside")]),
    ]
    assert to_markdown("T", blocks) == (
        "# T\n\n### a\\_b\n\n1\\. not an item\n\n**\\+ nor this**\n\n- \\<x\\>\n\n<!-- -->\n\n    one\n    \n    \\`two\\`\n\n"
        "| k | v |\n| --- | ---: |\n| a\\|b | -1.0 |\n\n- **note**: message *advice*\n\n![a \\] b](p.png)\n\n"
        "<details>\n<summary>&lt;more&gt;</summary>\n\ninside\n\n</details>\n"
    ).replace("\\`two\\`", "`two`")
    parser = checked(to_html("T", blocks))
    assert {"h3", "ul", "pre", "table", "img", "details"} <= parser.seen


def test_bars_stay_within_their_scale() -> None:
    drawn = bars([Bar("a", 0.25, 0.1, 0.4, "25"), Bar("b", 1.0, 0.9, 1.0, "100")])
    assert 'x="0.00%" width="25.00%"' in drawn
    assert 'x1="10.00%" x2="40.00%"' in drawn
    lost = bars([Bar("a", -0.04, -0.08, 0.02, "-4", difference=True)])
    assert 'x="30.00%" width="20.00%"' in lost, "from 0 at the middle, to -4 of 10 points"
    assert "<span>-10</span><span>0</span><span>+10</span>" in lost
    assert all(0 <= float(x) <= 100 for x in re.findall(r'(?:x|x1|x2|width)="([\d.-]+)%"', drawn + lost))
    assert bars([]) == ""
