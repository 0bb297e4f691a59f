"""`latentthought prune`: rules as they are typed, rows that are measured on, plain and thinking folders, wrong input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from latentthought import LatentThoughtForCausalLM, prune
from latentthought.cli import main
from latentthought.cli.pruning_rows import recipe_rows
from latentthought.cli.pruning_rules import depth_of, width_of
from latentthought.data.encoding import Encoder
from latentthought.data.sources import load_examples
from latentthought.errors import UserError
from latentthought.model.loading import load_model
from latentthought.recipe import load_recipe
from latentthought.thoughts.layout import THOUGHT_BIT


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    found = main(["prune", *map(str, arguments)])
    captured = capsys.readouterr()
    assert found == code, captured.err
    return captured.out if code == 0 else captured.err


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("4", {"remove": 4}),
        ("0.25", {"remove": 0.25}),
        ("remove=2,by=last,protect_last=1", {"remove": 2, "by": "last", "protect_last": 1}),
        ("drop=3,7-9", {"drop": (3, 7, 8, 9)}),
        ("keep=1-2, 5", {"keep": (1, 2, 5)}),
        ("drop=2,4", {"drop": (2, 4)}),
    ],
)
def test_depth_as_it_is_typed(text: str, settings: dict[str, Any]) -> None:
    found = depth_of(text)
    assert {name: getattr(found, name) for name in settings} == settings


def test_width_as_it_is_typed() -> None:
    found = width_of("mlp=0.75,heads=2,importance=magnitude")
    assert (found.mlp, found.heads, found.hidden, found.importance) == (0.75, 2, None, "magnitude")


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (depth_of, "drop=7-3", "3-7 is the same range"),
        (depth_of, "drop=a", "neither a block nor a range"),
        (depth_of, "remvoe=2", "did you mean remove"),
        (depth_of, "by=influense,remove=1", "influence"),
        (depth_of, "remove=1,remove=2", "remove is given twice"),
        (depth_of, "remove=1,2", "'2' is not key=value"),
        (depth_of, "drop=1,keep=2", "give one of drop, keep and remove"),
        (width_of, "0.75", "'0.75' is not key=value, such as mlp=0.75"),
        (width_of, "importance=magnitude", "at least one of mlp, heads and hidden"),
    ],
)
def test_rules_that_do_not_hold(read: Any, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(text)


def test_a_run_is_measured_on_its_own_rows_with_their_thoughts(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Influence of blocks by the states of the model's own passes, one thought after another."""
    shown = said(capsys, trained_run, "--depth", "1", "--rows", 6, "--output", tmp_path / "cut")
    assert "6 rows from hops" in shown and "1 of 2 stay" in shown
    config = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert config["model_type"] == "gpt2" and config["pruning"][0]["depth"] == 2
    model, tokenizer = (loaded := load_model(str(trained_run))).model, loaded.tokenizer
    recipe = load_recipe(trained_run / "recipe.yaml")
    rows = recipe_rows(recipe, loaded, 6, 2, smoke=False).batches
    assert rows[0][0].is_floating_point() and model.thought.thoughts == 5
    # by hand: think about each prompt, and go on with the rest of the row
    curriculum, stage = recipe.curriculum, len(recipe.curriculum.expand()) - 1
    found = torch.zeros(2, dtype=torch.float64)
    count = 0
    for example in load_examples(recipe.data.replace(limit=6), seed=recipe.seed):
        row = curriculum.layout(
            Encoder(tokenizer, recipe.data.format).encode(example), stage, None, model.thought.tokens
        )
        ids = torch.tensor([row.ids])
        thoughts = torch.tensor([[bool(flag & THOUGHT_BIT) for flag in row.flags]])
        assert thoughts.sum() == 5
        with torch.no_grad():
            output = model(ids, thought_mask=thoughts, capture=(0, 1, 2), return_logits=False)
        states = [output.captured[layer][0].double() for layer in (0, 1, 2)]
        for block in range(2):
            found[block] += (1 - torch.cosine_similarity(states[block], states[block + 1], dim=-1)).sum()
        count += len(row.ids)
    assert config["pruning"][0]["influence"] == pytest.approx((found / count).tolist(), abs=2e-5)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "cut").config.n_layer == 1


def test_with_thoughts_the_folder_answers_as_the_run_does(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, trained_run, "--depth", "keep=1-2", "--with-thoughts", "--output", tmp_path / "same")
    before, after = load_model(str(trained_run)), load_model(str(tmp_path / "same"))
    assert isinstance(after.model, LatentThoughtForCausalLM)
    assert after.model.thought == before.model.thought
    assert torch.equal(after.model.scale.target, before.model.scale.target)
    assert after.model.config.prompt_format == before.model.config.prompt_format
    ids = torch.tensor([before.tokenizer("a b b c c a ? a")["input_ids"]])
    for one in (before, after):
        one.model.generation_config.pad_token_id = 0
    both = [one.model.generate(ids, max_new_tokens=4, do_sample=False) for one in (before, after)]
    assert torch.equal(*both)


def test_texts_of_a_file(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a b c a"}\n{"text": "c b"}\n')
    shown = said(
        capsys, trained_run, "--width", "mlp=0.5", "--data", file, "--length", 3, "--output", tmp_path / "cut"
    )
    assert "2 texts of at most 3 tokens" in shown and "MLP" in shown
    model = load_model(str(trained_run)).model
    tokens = [load_model(str(trained_run)).tokenizer(text)["input_ids"][:3] for text in ("c b", "a b c a")]
    ids = torch.tensor([tokens[0] + [0] * (3 - len(tokens[0])), tokens[1]])
    mask = torch.tensor([[1] * len(row) + [0] * (3 - len(row)) for row in tokens])
    by_hand = prune(model, width={"mlp": 0.5}, batches=[(ids, mask)])
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    for name, weight in by_hand.state_dict().items():
        assert torch.equal(read.state_dict()[name], weight), name


def test_columns_with_other_names(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, row in (("content", {"content": "a b c"}), ("text", {"text": "a b c"})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    half = (trained_run, "--width", "mlp=0.5", "--data", tmp_path / "content.jsonl")
    assert "--field question=COLUMN" in said(capsys, *half, "--output", tmp_path / "none", code=2)
    wrong = said(capsys, *half, "--field", "txt=content", "--output", tmp_path / "none", code=2)
    assert "unknown name 'txt'. Did you mean text?" in wrong
    said(capsys, *half, "--field", "text=content", "--output", tmp_path / "one")
    said(capsys, *half[:-1], tmp_path / "text.jsonl", "--output", tmp_path / "other")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "9"], "at most 1 can go"),
        (["--width", "mlp=1000,importance=magnitude"], "1000, and the model has"),
        (["--width", "mlp=1000"], "1000, and the model has"),
        ([], "say what goes: --depth"),
        (["--depth", "drop=1", "--data", "hops"], "--data: nothing is measured by these rules"),
        (["--depth", "drop=1", "--field", "text=a"], "--field: nothing is measured by these rules"),
        (["--depth", "1", "--field", "text=a"], "give it as --data FILE"),
        (["--depth", "1", "--data", "hops", "--field", "text=a"], "--field: .*makes its own rows"),
        (["--depth", "1", "--data", "x", "--field", "a=b", "--field", "a=c"], "a is given twice, b before"),
        (["--depth", "1", "--data", "gone.jsonl"], "--data gone.jsonl: no such file"),
        (
            ["--depth", "0"],
            r"--depth: remove: expected a whole number of at least 1, or a share between 0 and 1",
        ),
        (["--depth", "1.0"], "expected a whole number of at least 1, or a share between 0 and 1"),
        (["--width", "mlp=0.001,importance=magnitude"], "rounds down to none"),
        (["--depth", "1", "--data", "hops", "--field", "text"], "expected NAME=COLUMN"),
        (["--depth", "1", "--data", "hopps"], "did you mean hops|Did you mean hops"),
        (["--depth", "1", "model.base=x"], "changes go with a RECIPE"),
        (["--depth", "1", "--smoke"], "--smoke goes with a RECIPE"),
    ],
)
def test_wrong_input_is_one_message_and_leaves_nothing(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    capsys.readouterr()
    assert main(["prune", str(trained_run), *arguments, "--output", str(tmp_path / "cut")]) == 2
    found = capsys.readouterr()
    assert re.search(message, found.err), found.err
    assert "measured    on" not in found.out
    assert list(tmp_path.iterdir()) == []


def test_a_plain_model_has_no_rows_of_its_own(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(trained_run), "--output", str(tmp_path / "plain")]) == 0
    assert "give --data RECIPE" in said(
        capsys, tmp_path / "plain", "--depth", "1", "--output", tmp_path / "cut", code=2
    )
    assert said(capsys, trained_run, "--depth", "1", code=2).count("--output DIR") == 1


def test_by_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "student"
    shown = said(capsys, "universal/both", "--smoke", "--output", folder)
    assert "blocks      3 of 4 stay" in shown and "width       24 of 32" in shown
    assert "did you mean universal/depth?" in said(capsys, "universal/dept", "--depth", "1", code=2)
    assert "model.pruning says what is pruned" in said(capsys, "quickstart", "--output", folder, code=2)
    assert "change it with model.pruning.depth=" in said(
        capsys, "universal/both", "--depth", "1", "--output", tmp_path / "b", code=2
    )
    too_many = ["universal/both", "--smoke", "model.pruning.depth.remove=9", "--output", str(tmp_path / "b")]
    assert main(["prune", *too_many]) == 2
    found = capsys.readouterr()
    assert "at most 2 can go" in found.err and "measured    on" not in found.out
    assert "data.source=" in said(
        capsys, "universal/both", "--data", "hops", "--output", tmp_path / "b", code=2
    )
    # what is not there yet is named with the command that makes it
    assert main(["train", "universal/depth", "--output", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr().err
    assert "universal-depth-pruned" in captured and "latentthought prune RECIPE" in captured


def test_the_smoke_run_of_a_student_that_was_pruned_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its recipe has no `model.pruning`: the tiny student in its place knows nothing of a teacher's blocks."""
    for more in (["--dry-run"], []):
        command = ["train", "universal/depth", "model.pruning=null", "--smoke", *more]
        assert main([*command, "--output", str(tmp_path / "run")]) == 0, capsys.readouterr().err
        assert "layers      uniform in place of provenance" in capsys.readouterr().out
    written = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "strategy: uniform" in written and "provenance" not in written


def test_nothing_is_heard_but_the_error(tmp_path: Path) -> None:
    """In a process of its own: libraries speak while they are imported."""
    wrong = ["gone/model", "--depth", "1", "--output", str(tmp_path / "cut")]
    right = ["universal/both", "--smoke", "--output", str(tmp_path / "student")]
    for arguments, code, lines in ((wrong, 2, 1), (right, 0, 0)):
        command = [sys.executable, "-m", "latentthought", "prune", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code and len(done.stderr.splitlines()) == lines, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
