"""`export --to prompt-embeds`: a folder from which plain transformers writes what `generate` writes."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from latentthought.cli import main

QUESTIONS = (
    "a b b c c d d e e f f g g h h i i j j k k l l a ? a",
    "b c c a ? b",
    "c d ? c",
)


def completions(served: Path) -> dict[str, str]:
    """What an engine writes from an export, greedily: id -> text. It imports nothing of ours."""
    model = AutoModelForCausalLM.from_pretrained(served / "model")
    tokenizer = AutoTokenizer.from_pretrained(served / "model")
    written = {}
    for line in map(json.loads, (served / "prompts.jsonl").read_text(encoding="utf-8").splitlines()):
        embeds = load_file(served / line["file"])[line["tensor"]]
        assert embeds.shape[0] == line["length"]
        new = model.generate(
            inputs_embeds=embeds[None],
            attention_mask=torch.ones(1, len(embeds), dtype=torch.long),
            max_new_tokens=8,
            do_sample=False,
        )
        written[line["id"]] = tokenizer.decode(new[0], skip_special_tokens=True)
    return written


def said(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> str:
    capsys.readouterr()
    found = main(arguments)
    captured = capsys.readouterr()
    assert found == code, captured.err
    return captured.out if code == 0 else captured.err


@pytest.mark.parametrize("thoughts", [[], ["--thoughts", "0"], ["--thoughts", "auto"]], ids=str)
def test_an_engine_writes_what_generate_writes(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path, thoughts: list[str]
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(
        "".join(json.dumps({"id": f"q{n}", "question": q}) + "\n" for n, q in enumerate(QUESTIONS))
    )
    ask = [str(trained_run), "--input", str(file), "--device", "cpu", "--batch-size", "2", *thoughts]
    rows = said(capsys, ["generate", *ask, "--jsonl", "--max-new-tokens", "8"]).splitlines()
    answers = {row["id"]: row for row in map(json.loads, rows)}
    served = tmp_path / "served"
    told = said(capsys, ["export", *ask, "--to", "prompt-embeds", "--output", str(served)])
    assert f"3 prompts with {sum(row['thoughts'] for row in answers.values())} thoughts" in told
    assert completions(served) == {key: row["completion"] for key, row in answers.items()}
    lines = [json.loads(line) for line in (served / "prompts.jsonl").read_text().splitlines()]
    assert [line["question"] for line in lines] == list(QUESTIONS)
    assert [line["thoughts"] for line in lines] == [row["thoughts"] for row in answers.values()]
    assert json.loads((served / "index.json").read_text())["prompts"] == 3


def test_a_prompt_alone_in_another_type(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    served = tmp_path / "served"
    base = ["export", str(trained_run), "--to", "prompt-embeds", "--output", str(served), "--thoughts", "2"]
    said(capsys, [*base, QUESTIONS[2], "--no-model", "--dtype", "bfloat16", "--raw"])
    assert sorted(path.name for path in served.iterdir()) == [
        "index.json",
        "prompts-00000.safetensors",
        "prompts.jsonl",
    ]
    index = json.loads((served / "index.json").read_text())
    assert (index["dtype"], index["model"], index["thoughts"]) == ("bfloat16", None, 2)
    line = json.loads((served / "prompts.jsonl").read_text())
    embeds = load_file(served / "prompts-00000.safetensors")["0"]
    assert embeds.dtype == torch.bfloat16
    assert line["token_ids"][line["first_thought"] :][:2] == [line["token_ids"][line["first_thought"]]] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "promptembeds", "x"], "did you mean prompt-embeds?"),
        (["--to", "prompt-embeds"], "a PROMPT or --input FILE"),
        (["--to", "prompt-embeds", "x", "--input", "y"], "a PROMPT or --input FILE"),
        (["--to", "prompt-embeds", "--input", "nowhere.txt"], "no such file"),
        (["--to", "prompt-embeds", "--input", "EMPTY"], "no prompts in it"),
        (["--to", "prompt-embeds", " "], "PROMPT is empty"),
        (["--to", "prompt-embeds", "x", "--thoughts", "many"], "a whole number or auto"),
        (["--to", "prompt-embeds", "c", "--thoughts", "9000"], "leave no room"),
        (["--to", "hf", "x"], "PROMPT goes with --to prompt-embeds"),
        (["--to", "adapter", "--thoughts", "2"], "--thoughts goes with --to prompt-embeds"),
    ],
)
def test_what_does_not_hold_is_one_message_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    arguments = [str(tmp_path / "empty.txt") if word == "EMPTY" else word for word in arguments]
    told = said(capsys, ["export", str(trained_run), *arguments, "--output", str(tmp_path / "out")], 2)
    assert message in told
    assert len(told.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_a_folder_in_use_is_left_alone(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    told = said(
        capsys, ["export", str(trained_run), "--to", "prompt-embeds", "x", "--output", str(tmp_path)], 2
    )
    assert "not empty" in told
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_failure_half_way_leaves_nothing(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    told = said(
        capsys,
        ["export", str(trained_run), "--to", "prompt-embeds", "c d ? c", "--output", str(tmp_path / "out")],
        1,
    )
    assert "no space left" in told
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_mixes_is_refused(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(trained_run / "model", model)
    config = json.loads((model / "config.json").read_text())
    config["thought"]["mix_ratio"], config["thought"]["thoughts"] = 0.4, 0
    (model / "config.json").write_text(json.dumps(config))
    ask = ["export", str(model), "--to", "prompt-embeds", QUESTIONS[2], "--output", str(tmp_path / "out")]
    assert "mixed decoding (mix_ratio 0.4)" in said(capsys, ask, 2)
    said(capsys, [*ask, "--thoughts", "2"])


@pytest.fixture
def client_code(repository: Path, tmp_path: Path) -> Any:
    """The Python that docs/serving.md tells a client to use, as a module."""
    text = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        compile(block, "docs/serving.md", "exec")
    file = tmp_path / "client_code.py"
    file.write_text(next(block for block in blocks if "def payload" in block), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("client_code", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_client_of_the_docs_sends_the_row_it_names(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path, client_code: Any
) -> None:
    """vLLM reads it by `torch.load(BytesIO(b64decode(text)), weights_only=True)` and wants two dimensions."""
    served = tmp_path / "served"
    said(capsys, ["export", str(trained_run), "--to", "prompt-embeds", QUESTIONS[2], "--output", str(served)])
    client = MagicMock()
    row = json.loads((served / "prompts.jsonl").read_text())
    client_code.complete(client, row, str(served), max_tokens=3)
    sent = client.completions.create.call_args.kwargs
    embeds = torch.load(io.BytesIO(base64.b64decode(sent["extra_body"]["prompt_embeds"])), weights_only=True)
    assert torch.equal(embeds, load_file(served / "prompts-00000.safetensors")["0"])
    assert embeds.shape == (row["length"], 32)
    assert (sent["model"], sent["prompt"], sent["max_tokens"]) == (f"{served}/model", None, 3)
