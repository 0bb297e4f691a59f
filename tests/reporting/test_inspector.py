"""The pages of a look inside the thoughts: what is on them, their size, their escaping, and that a browser shows them."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from latentthought.errors import ConfigError
from latentthought.evaluation.inspection.results import (
    Effect,
    Faithfulness,
    Inspection,
    Mean,
    ProbeScore,
    Seen,
    ThoughtEffect,
    ThoughtView,
)
from latentthought.evaluation.statistics import Estimate
from latentthought.reporting.document import to_html
from latentthought.reporting.faithfulness import write_faithfulness
from latentthought.reporting.inspector import MOST_PROMPTS, check_page, page, write_page
from tests.reporting.test_evaluation_report import EVIL, checked

LIMIT = 2_000_000


def seen(words: int, blocks: int, word: str = "c") -> Seen:
    """Attention on the last column alone, but for a quarter on the first."""
    row = (0.25, *[0.0] * (words - 2), 0.75)
    reading = tuple((f"{word}{rank}", 0.5 / (rank + 1)) for rank in range(5))
    return Seen((reading,) * blocks, (row,) * blocks)


def inspection(
    words: int = 6, blocks: int = 2, thoughts: int = 2, text: str = "word", donor: str | None = "else"
) -> Inspection:
    kinds = ("removed", "noised") if donor is None else ("removed", "noised", "swapped")
    effects = tuple(
        Effect(
            kind,
            reach,
            -1.25,
            0.5,
            0.25 if kind == "noised" else 0.0,
            ((text, 3), ("k", 1)) if kind == "noised" else (("k", 1),),
        )
        for kind in kinds
        for reach in ("direct", "total")
    )
    columns = (*[text] * words, *(f"thought {k + 1}" for k in range(thoughts)), "=")
    return Inspection(
        id="1",
        question=f"question {text}",
        columns=columns,
        prompt_columns=words,
        thoughts=tuple(
            ThoughtView(seen(words + k, blocks, text), 0.5 if k else None, 1.125, effects)
            for k in range(thoughts)
        ),
        answer=text,
        answer_log_prob=-0.125,
        answer_seen=seen(words + thoughts + 1, blocks),
        in_words=f"in words {text}",
        steps=("one step",),
        gold="gold",
        donor=donor,
    )


def test_a_page(tmp_path: Path) -> None:
    file = write_page(tmp_path / "thoughts.html", "a-model", [inspection()])
    text = file.read_text("utf-8")
    checked(text)
    for part in (
        "Inside the thoughts of a-model",
        "question word",
        "In words, without thoughts",
        "one step\nanswer: gold",
        "log probability -0.125",
        "-1.25, same answer in 1 of 4",
        "-1.25, &#x27;k&#x27;",
        "2, as the head says it",
        "All blocks: 25 % on the prompt. Most on &#x27;thought 1&#x27; (7) 75 %",
        "swapped with another prompt&#x27;s",
    ):
        assert part in text, part
    assert text.count('<i class="s8">') == 3 * 3, "three columns, over all blocks and by each of two"
    assert "no other prompt" not in text
    alone = to_html("x", list(page([inspection(donor=None)])))
    assert "there is no other prompt to take one from (--other PROMPT" in alone
    assert not list(tmp_path.glob("*.tmp"))


def test_foreign_text_is_seen_and_not_acted_upon(tmp_path: Path) -> None:
    text = write_page(tmp_path / "thoughts.html", EVIL, [inspection(text=EVIL, donor=EVIL)]).read_text(
        "utf-8"
    )
    parsed = checked(text)
    assert not {"src", "href", "onerror"} & parsed.attributes
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_page_stays_small(tmp_path: Path) -> None:
    large = inspection(words=1500, blocks=48, thoughts=8)
    one = write_page(tmp_path / "one.html", "m", [large])
    assert one.stat().st_size < LIMIT
    assert "would become too large" in one.read_text("utf-8")
    usual = inspection(words=120, blocks=16, thoughts=6)
    many = write_page(tmp_path / "many.html", "m", [usual] * MOST_PROMPTS)
    assert many.stat().st_size < LIMIT
    assert "would become too large" not in write_page(tmp_path / "x.html", "m", [usual]).read_text("utf-8")


def test_a_model_that_does_not_tell_its_attention(tmp_path: Path) -> None:
    found = inspection()
    blind = Seen(found.answer_seen.words, None)
    thoughts = tuple(ThoughtView(blind, None, 1.0, view.effects) for view in found.thoughts)
    from dataclasses import replace

    text = write_page(
        tmp_path / "x.html", "m", [replace(found, thoughts=thoughts, answer_seen=blind)]
    ).read_text("utf-8")
    assert text.count("does not tell its attention") == 3


def test_where_no_page_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        check_page(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        check_page(tmp_path / "absent" / "page.html")
    check_page(tmp_path / "page.html")


def faithful(led: bool = True) -> Faithfulness:
    share = Estimate(value=0.25, low=0.125, high=0.5, n=80)
    mean = Mean(value=-2.5, low=-3.0, high=-2.0, n=80)
    return Faithfulness(
        task="hops",
        version=1,
        model="m",
        thoughts=2,
        rows=80,
        unfit=3,
        accuracy=Estimate(value=0.975, low=0.9, high=1.0, n=80),
        per_step=1,
        draws=2,
        noise=1.0,
        effects=tuple(
            ThoughtEffect(
                thought=thought,
                kind=kind,
                reach=reach,
                log_prob=mean,
                divergence=mean.replace(value=1.0, low=0.5, high=2.0),
                flipped=share,
                led=share if led and kind == "swapped" else None,
            )
            for kind in ("removed", "noised", "swapped", "alike")
            for reach in ("direct", "total")
            for thought in (1, 2)
        ),
        probes=tuple(
            ProbeScore(
                thought=thought,
                step=step,
                accuracy=share.replace(value=0.9375),
                majority=0.1,
                shuffled=0.08,
                classes=12,
                rows=(53, 27),
                left_out=0,
            )
            for thought in (1, 2)
            for step in (1, 2)
        ),
        remarks=("a remark <b>",),
    )


def test_the_report_of_a_task(tmp_path: Path) -> None:
    files = write_faithfulness(tmp_path, faithful(), [inspection()])
    assert [file.name for file in files] == [
        "inspection.json",
        "effects.csv",
        "probes.csv",
        "inspection.html",
    ]
    text = files[-1].read_text("utf-8")
    checked(text)
    for part in (
        "97.5 % of 80 rows right after 2 thoughts (90.0 to 100.0)",
        "a remark &lt;b&gt;",
        "3 more rows do not fit",
        "-2.50 (-3.00 to -2.00)",
        "25.0 % (12.5 to 50.0)",
        '<th class="n">led</th>',
        "93.8 %",
        "The first 1 rows",
    ):
        assert part in text, part
    assert text.count("<svg") == 4 * 2, "a bar a kind and thought, total effects"
    assert Faithfulness.parse(json.loads(files[0].read_text("utf-8"))) == faithful()
    effects = list(csv.DictReader(files[1].open(encoding="utf-8")))
    assert len(effects) == 16
    assert effects[0]["kind"] == "removed" and effects[0]["led"] == ""
    assert effects[8]["kind"] == "swapped" and effects[8]["led_rows"] == "80"
    assert (effects[0]["log_prob"], effects[0]["flipped_high"], effects[0]["rows"]) == ("-2.5", "0.5", "80")
    probes = list(csv.DictReader(files[2].open(encoding="utf-8")))
    assert [(row["thought"], row["step"], row["scored_rows"]) for row in probes][1] == ("1", "2", "27")
    plain = write_faithfulness(tmp_path / "plain", faithful(led=False))[-1].read_text("utf-8")
    assert ">led</th>" not in plain


# ------------------------------------------------------------------------------------------------------------- a browser
@pytest.fixture(scope="module")
def chromium() -> str:
    """A Chromium, by `LATENTTHOUGHT_CHROMIUM` or on the path; skips where there is none."""
    named = os.environ.get("LATENTTHOUGHT_CHROMIUM")
    found = named or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
    )
    if not found:
        pytest.skip("no Chromium on the path, and LATENTTHOUGHT_CHROMIUM is unset")
    return found


def browse(chromium: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def png_size(file: Path) -> tuple[int, int]:
    head = file.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_a_browser_shows_the_page(chromium: str, tmp_path: Path) -> None:
    file = write_page(
        tmp_path / "thoughts.html", "m", [inspection(text=EVIL, words=20, blocks=4), inspection()]
    )
    dom = browse(chromium, tmp_path, "--dump-dom", file.as_uri())
    assert "<script" not in dom
    assert dom.count("<h2>") == 2 and dom.count("<details") > 6
    assert dom.count("<svg") == file.read_text("utf-8").count("<svg")
    picture = tmp_path / "page.png"
    browse(chromium, tmp_path, "--window-size=1000,1400", f"--screenshot={picture}", file.as_uri())
    assert png_size(picture)[0] == 1000
    assert picture.stat().st_size > 20_000, "more than an empty page"


def test_the_largest_page_opens_at_once(chromium: str, tmp_path: Path) -> None:
    """As processor time of the browser beyond that of an empty page: neither its own start counts, nor who else is at work."""
    usual = inspection(words=120, blocks=16, thoughts=6)
    file = write_page(tmp_path / "many.html", "m", [usual] * MOST_PROMPTS)
    empty = tmp_path / "empty.html"
    empty.write_text("<!doctype html><title>x</title>", encoding="utf-8")

    def seconds(page: Path) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        browse(chromium, tmp_path, "--dump-dom", page.as_uri())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    seconds(empty)
    assert min(seconds(file) for _ in range(2)) - seconds(empty) < 1
