"""Every command of README and docs: read by the parser that would read it, and run where that is cheap.

A command that needs a hub, a cluster, a GPU or hours is parsed: its options, its recipe and what it changes in it, its tasks.
What is cheap as it stands (lists, forecasts, smoke runs) is run. The commands of docs/first-look.md are run one after the
other, at smoke size, since each needs what the one before it left. Recipes are run with --smoke by tests/recipes.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.errors import UserError
from latentthought.resources import find_recipe
from tests.docs.commands import STAND_IN, Line, check, lines_in, lines_of
from tests.docs.pages import Block, pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for page in pages(ROOT) if any(lines_of(page))]
_LISTS = ("recipes", "tasks", "doctor")


def cheap(line: Line) -> bool:
    """Whether a command runs in a moment as it stands: no hub, no trained model, nothing but a few steps."""
    program, *words = line.words
    if program != "latentthought" or line.into:
        return False
    forecast = words[0] == "train" and "--dry-run" in words and "--processes" in words
    return words[0] in _LISTS or "--help" in words or forecast


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_parse(page: Path) -> None:
    for line in lines_of(page):
        try:
            check(line, ROOT)
        except (AssertionError, UserError, SystemExit, ValueError) as error:
            pytest.fail(f"{line}\n{error}")


def test_there_are_commands() -> None:
    lines = [line for page in PAGES for line in lines_of(page)]
    assert len([line for line in lines if line.words[0] == "latentthought"]) > 120
    assert {"README.md", "first-look.md", "launching.md", "distillation.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda file: file.stem)
def test_commands_in_the_remarks_of_recipes_parse(file: Path) -> None:
    remarks = re.findall(
        r"^#   ((?:latentthought|torchrun) .*)$", file.read_text(encoding="utf-8"), re.MULTILINE
    )
    for line in lines_in(Block(file, 0, "bash", "\n".join(remarks) + "\n")):
        check(line, ROOT)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latentthought trian quickstart", "no command trian"),
        ("latentthought train quickstrat", "quickstart"),
        ("latentthought train quickstart trainig.batch_size=3", "training"),
        ("latentthought train quickstart --resmue", "--resume"),
        ("latentthought evaluate runs/x --task gsm9k", "gsm8k"),
        ("latentthought evaluate runs/x --task gsm8k --control shuffeld", "shuffled"),
        ("latentthought evaluate runs/x --task gsm8k few_shots.count=2", "few_shot"),
        ("latentthought teacher extract logic-distill --fast", "--fast"),
        ("latentthought lm-eval --tasks latentthought_gsm9k", "gsm9k"),
        ("torchrun --nproc-per-node 2 -m latentthought train quickstart engine=zero9", "zero9"),
        ("make quikstart", "quikstart"),
        ("pip install 'latentthought[evel]'", "evel"),
        ("python docs/examples/gone.py", "gone.py"),
        ("python -m benchmarks train_setp", "train_setp"),
        ("curl x", "no test knows"),
    ],
)
def test_a_wrong_command_is_seen(text: str, said: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```bash\n{text}\n```\n")
    [line] = lines_of(page)
    with pytest.raises((AssertionError, UserError), match=re.escape(said)):
        check(line, ROOT)


def test_what_counts_as_a_command(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nlatentthought train a \\\n    b=1   # remark\n\n# only a remark\nA=1 latentthought tasks x > y.yaml\n```\n"
        "```\nlatentthought: process 1 of 2\nlatentthought doctor\nprompt answer\n```\n"
        "```console\n$ latentthought recipes\nquickstart\n```\n```yaml\nlatentthought: 1\n```\n"
    )
    assert [(line.words, line.into) for line in lines_of(page)] == [
        (("latentthought", "train", "a", "b=1"), None),
        (("latentthought", "tasks", "x"), "y.yaml"),
        (("latentthought", "doctor"), None),
        (("latentthought", "recipes"), None),
    ]


def test_cheap_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(find_recipe(STAND_IN), "mine.yaml")
    others = [page for page in PAGES if page.name != "first-look.md"]
    found = {line.words: line for page in others for line in lines_of(page) if cheap(line)}
    assert len(found) > 4
    for line in found.values():
        assert silently(at_smoke_size(line)) == 0, str(line)


def test_the_first_look_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one folder; what trains or scores does so at smoke size.

    The quickstart itself is run by tests/cli/test_quickstart.py; here two of the arms that it leaves are made without it.
    """
    monkeypatch.chdir(tmp_path)
    lines = list(lines_of(ROOT / "docs" / "first-look.md"))
    assert lines[0].words == ("make", "quickstart")
    for arm, recipe in (("thoughts", "quickstart"), ("no-thought", "quickstart-no-thought")):
        run = f"runs/quickstart-001/arms/{arm}"
        assert silently(["train", recipe, "--smoke", "--output", run]) == 0
        assert silently(["evaluate", run, "--task", "hops", "--smoke"]) == 0
    for line in lines[1:]:
        assert silently(at_smoke_size(line), line.into) == 0, str(line)
    for left in ("model", "plots/loss.png", "results/hops/report.html", "results/hops/pause/results.json"):
        assert (tmp_path / "runs" / "first" / left).exists(), left


def at_smoke_size(line: Line) -> list[str]:
    """The words of a command, for a test that has seconds."""
    words = list(line.words[1:])
    if words[0] in ("train", "evaluate") and "--smoke" not in words:
        words.append("--smoke")
    if "--processes" in words:
        words.append("training.batch_size=64")  # the four rows of a smoke run do not divide among as many
    return words


def silently(words: Sequence[str], into: str | None = None) -> int:
    """Run a command of ours; its output goes into a file, or nowhere."""
    shown, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(wrong):
        try:
            code = main(words)
        except SystemExit as stop:  # --help
            code = int(stop.code or 0)
    if into is not None:
        Path(into).write_text(shown.getvalue(), encoding="utf-8")
    if code:
        print(wrong.getvalue()[-2000:])
    return code
