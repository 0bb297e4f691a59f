"""The Python on the pages: it compiles, what it imports is there, and the snippets of docs/extending.md do what they say."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latentthought.cli import main
from latentthought.data.sources.catalog import SOURCES
from latentthought.evaluation import evaluate
from latentthought.model.loading import load_model
from latentthought.recipe import load_recipe
from latentthought.training.preparation import prepare
from latentthought.training.run import train
from tests.docs.pages import Block, blocks, pages

LONGEST = 20


def python_blocks(repository: Path) -> Iterator[Block]:
    for page in pages(repository):
        yield from (block for block in blocks(page) if block.language == "python")


def snippet(repository: Path, heading: str, language: str = "python") -> str:
    """The first block of a language below a heading of docs/extending.md."""
    page = repository / "docs" / "extending.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    [at] = [number for number, line in enumerate(lines, 1) if line == f"## {heading}"]
    text = next(block.text for block in blocks(page) if block.line > at and block.language == language)
    assert len(text.splitlines()) < LONGEST, f"{heading}: promised in under {LONGEST} lines"
    return text


def run_snippet(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(text, "docs/extending.md", "exec"), names)  # noqa: S102 - our own page
    return names


def test_python_compiles_and_imports_what_is_there(repository: Path) -> None:
    seen = 0
    for block in python_blocks(repository):
        where = f"{block.page.name}, line {block.line}"
        for node in ast.walk(ast.parse(block.text, where)):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            if importlib.util.find_spec(node.module.partition(".")[0]) is None:
                continue  # an engine that is not installed here
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{where}: {node.module} has no {alias.name}"
                seen += 1
    assert seen > 20


def test_a_new_source(repository: Path, tmp_path: Path) -> None:
    before = dict(SOURCES)
    try:
        run_snippet(snippet(repository, "A source"))
        [name] = SOURCES.keys() - before.keys()
        rows = tmp_path / "rows.jsonl"
        made = SOURCES[name].smoke_rows(8, 0)
        rows.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
        prepared = prepare(
            load_recipe("quickstart", [f"data.source={name}", f"data.path={rows}"], smoke=True)
        )
        assert len(prepared.examples) == 8
        assert all(example.steps and example.answer for example in prepared.examples)
        output = tmp_path / "run"
        assert main(["train", "quickstart", f"data.source={name}", "--smoke", "--output", str(output)]) == 0
    finally:
        SOURCES.clear()
        SOURCES.update(before)


def test_a_new_task(repository: Path, smoke_run: Path, tmp_path: Path) -> None:
    task, data = tmp_path / "mine.yaml", tmp_path / "rows.jsonl"
    task.write_text(snippet(repository, "A task", "yaml"), encoding="utf-8")
    rows = [
        {"problem": f"a {n}", "gold": {"value": str(n)}, "kind": "odd" if n % 2 else "even"} for n in range(6)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load_model(str(smoke_run), "cpu")
    results = evaluate(
        loaded.model, task, tokenizer=loaded.tokenizer, data=data, max_new_tokens=4, progress=False
    )
    assert (results.task, results.accuracy.n) == ("mine", 6)
    assert {kind: found.n for kind, found in results.groups["kind"].items()} == {"even": 3, "odd": 3}


def test_a_new_loss(repository: Path, tmp_path: Path) -> None:
    """The snippet's objective trains, is logged, and moves the weights that the terms alone would not have."""
    from latentthought.training.arguments import arguments
    from latentthought.training.trainer import LatentThoughtTrainer

    names = run_snippet(snippet(repository, "A loss"))
    [made] = [v for v in names.values() if isinstance(v, type) and v.__module__ == "snippet"]
    recipe = load_recipe("quickstart", ["curriculum.each.steps=3", "training.log_every=1"], smoke=True)
    losses = []
    for objective in (None, made()):
        prepared = prepare(recipe, smoke=True)
        folder = tmp_path / str(len(losses))
        folder.mkdir()
        engine = recipe.engine.arguments(recipe.training.batch_size, 1)
        trainer = LatentThoughtTrainer(
            prepared.model,
            arguments(recipe.training, engine, folder, 0, prepared.plan.longest),
            train_dataset=prepared.dataset,
            objective=objective,
            settings=recipe.training,
            pad_id=prepared.tokenizer.pad_token_id,
        )
        trainer.train()
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append(rows)
    plain, ours = losses
    thinking = [row for row in ours if row.get("loss_apart")]
    assert thinking, "two thoughts in a row are compared from the second latent stage on"
    for row in thinking:
        assert row["loss"] == pytest.approx(row["loss_ce"] + row["loss_apart"], abs=1e-5)
    assert plain[0]["loss"] == pytest.approx(ours[0]["loss"]), "the stage of words has no thoughts to compare"
    assert plain[-1]["loss_ce"] != ours[-1]["loss_ce"]


def test_a_new_schedule(repository: Path, tmp_path: Path) -> None:
    names = run_snippet(snippet(repository, "A schedule"))
    schedule, curve = names["schedule"], names["curve"]
    for step in range(101):
        assert schedule.ratio(step, 101) == pytest.approx(curve(step / 100), abs=0.01)
    recipe = load_recipe("latent-thought-r1-1.5b", names["overrides"], smoke=True)
    assert recipe.curriculum.expand()[1].mix == schedule
    train(recipe, tmp_path / "run", smoke=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {round(row["mix_ratio"], 3) for row in rows if row["stage"] == "mixed"} == {round(curve(1.0), 3)}
