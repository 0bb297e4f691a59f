"""The scripts of docs/examples run, on tiny random models, and leave what they say."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from latentthought import LatentThoughtForCausalLM, TeacherStateCache
from latentthought.evaluation import find_results

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "examples"
LONGEST = 60


def run(name: str, *arguments: object) -> None:
    """Run an example as `python docs/examples/NAME ...` does."""
    before = sys.argv, sys.path[:]
    sys.argv, sys.path = [name, *map(str, arguments)], [str(FOLDER), *sys.path]
    try:
        runpy.run_path(str(FOLDER / name), run_name="__main__")
    finally:
        sys.argv, sys.path = before
        sys.modules.pop("tiny", None)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_an_example_is_short_and_told_of(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LONGEST
    assert f"examples/{file.name}" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert file.name == "tiny.py" or f"python docs/examples/{file.name}" in text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run("train.py", folder)
    return folder


def test_train(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows][-1] == "latent-2"
    assert rows[-1]["loss"] < rows[0]["loss"]
    model = LatentThoughtForCausalLM.from_pretrained(trained / "model")
    assert model.thought.thoughts == 2
    assert model.config.prompt_format["prompt"] == "{question}\n"


@pytest.mark.parametrize("kind", ["untrained", "trained"])
def test_think_and_generate(kind: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("think_and_generate.py", *([trained / "model"] if kind == "trained" else []))
    shown = capsys.readouterr().out
    assert "thought 2:" in shown
    assert all(word in shown for word in ("two thoughts:", "until they settle:", "mixed:"))


def test_distil(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("distil.py", tmp_path)
    assert "2 blocks of width 48, reads along" in capsys.readouterr().out
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    total = sum(last[f"loss_{term}_weighted"] for term in ("ce", "kl", "hidden"))
    assert last["loss"] == pytest.approx(total, abs=1e-5)
    assert all(last[f"loss_{term}"] > 0 for term in ("ce", "kl", "hidden"))


def test_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("cache.py", tmp_path / "states")
    assert "64 rows" in capsys.readouterr().out
    cache = TeacherStateCache.open(tmp_path / "states")
    assert cache.verify() == []
    assert len(cache) == 64
    assert cache.manifest.spec.layers == (1, 2)
    run("cache.py", tmp_path / "states")
    assert TeacherStateCache.open(tmp_path / "states").manifest == cache.manifest, "nothing is made twice"


def test_evaluate(tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("evaluate.py", tmp_path / "untrained")
    run("evaluate.py", tmp_path / "trained", trained / "model")
    assert capsys.readouterr().out.count("points lost") == 8
    for kind in ("untrained", "trained"):
        found = {results.control: results for results in find_results(tmp_path / kind).values()}
        assert set(found) == {"none", "no-thought", "pause", "shuffled", "noised"}
        assert found["none"].accuracy.n == 32
        assert found["none"].costs.thoughts == 2
        assert found["no-thought"].costs.thoughts == 0
