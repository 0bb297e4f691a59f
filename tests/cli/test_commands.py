"""The commands on a tiny trained run: what they print, write and refuse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.resources import list_recipes, list_suites, list_tasks

QUESTION = "a b b c c d d e e f f g g h h i i j j k k l l a ? a"


def said(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> str:
    capsys.readouterr()
    found = main(arguments)
    captured = capsys.readouterr()
    assert found == code, captured.err
    return captured.out if code == 0 else captured.err


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    for command, names in (("recipes", list_recipes()), ("tasks", list_tasks())):
        shown = said(capsys, [command]).partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in shown] == names
        assert all(len(line.split()) > 3 for line in shown), "each with its description"
    assert "curriculum:" in said(capsys, ["recipes", "quickstart"])
    assert "source: hops" in said(capsys, ["tasks", "hops"])
    assert all(f"\n{name} " in said(capsys, ["tasks"]) for name in list_suites())
    assert "tasks: [prosqa," in said(capsys, ["tasks", "logic"])


def test_what_the_deepspeed_launcher_adds_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--local_rank=1", "recipes"]) == 0
    assert "quickstart" in capsys.readouterr().out


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    findings = json.loads(said(capsys, ["doctor", "--json"]))
    assert findings["missing"] == []
    assert findings["required"]["torch"]
    assert "everything required is here" in said(capsys, ["doctor"])


def test_doctor_says_what_float8_would_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchao")
    found = json.loads(said(capsys, ["doctor", "--json"]))["devices"]["fp8"]
    assert "torchao (tensorwise" in found or "transformer-engine" in found
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert re.search(
        r"fp8 +no: needs torchao, which does not import .*latentthought\[fp8\]", said(capsys, ["doctor"])
    )


def test_torchao_is_not_heard() -> None:
    """peft imports it where it is installed, and it announces every kernel that it cannot load."""
    pytest.importorskip("torchao")
    program = "from latentthought.cli.noise import quiet_libraries as q; q(); import torchao.float8"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_dry_run_shows_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = said(capsys, ["train", "quickstart", "--dry-run", "--smoke", "training.batch_size=8"])
    assert "batch_size: 8" in shown
    assert "stage 5    latent-5" in shown
    assert shown.count("<|thought|>") >= 15, "one thought in the first latent stage, five in the last"
    assert list(tmp_path.iterdir()) == []


def test_default_folders_are_numbered(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: quickstart-no-thought\n")
    for number in (1, 2):
        shown = said(capsys, ["train", "mine.yaml", "--smoke", "evaluation.task=null", "--profile"])
        assert f"runs/mine-00{number}" in shown
        assert (tmp_path / f"runs/mine-00{number}/model/config.json").is_file()
    assert "where a step's time goes" in shown
    assert "backward" in shown
    rows = [json.loads(line) for line in (tmp_path / "runs/mine-001/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] > 0


def test_output_in_use_and_resume(capsys: pytest.CaptureFixture[str], trained_run: Path) -> None:
    assert "is not empty" in said(capsys, ["train", "quickstart", "--smoke", "--output", str(trained_run)], 2)
    arguments = ["train", "quickstart", "--smoke", "--output", str(trained_run), "--resume"]
    assert "seed (" in said(capsys, [*arguments, "seed=77"], 2), "a changed recipe is named, not trained"
    said(capsys, arguments)


def test_failed_start_leaves_the_folder_free(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "run"
    bad = [
        "train",
        "quickstart-no-thought",
        "--smoke",
        "data.options={symbols: 12, links: 12}",
        "--output",
        str(output),
    ]
    assert "links" in said(capsys, bad, 2)
    assert not output.exists()
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1", "steps": ["<<1+1=2>>"], "answer": "2"}\n{"question": 5}\n')
    shown = said(
        capsys, ["train", "cot-gpt2-gsm8k", "--smoke", f"data.path={rows}", "--output", str(output)], 2
    )
    assert f"{rows}, line 2" in shown
    assert not output.exists()


def test_generate_modes(capsys: pytest.CaptureFixture[str], trained_run: Path) -> None:
    base = ["generate", str(trained_run), QUESTION, "--max-new-tokens", "5"]
    shown = said(capsys, [*base, "--show-thoughts"])
    assert [line.split(":")[0].strip() for line in shown.splitlines()[:5]] == [
        f"thought {n}" for n in range(1, 6)
    ]
    rows = [
        json.loads(line)
        for line in said(capsys, [*base, "--samples", "3", "--jsonl", "--seed", "4"]).splitlines()
    ]
    assert [row["sample"] for row in rows] == [0, 1, 2]
    assert {row["thoughts"] for row in rows} == {5}
    again = [
        json.loads(line)
        for line in said(capsys, [*base, "--samples", "3", "--jsonl", "--seed", "4"]).splitlines()
    ]
    assert rows == again, "a seed repeats its samples"
    words = json.loads(said(capsys, [*base, "--thoughts", "0", "--jsonl"]))
    assert words["thoughts"] == 0
    more = json.loads(said(capsys, [*base, "--thoughts", "7", "--jsonl", "--show-thoughts"]))
    assert more["thoughts"] == len(more["thought_words"]) == 7
    auto = json.loads(said(capsys, [*base, "--thoughts", "auto", "--jsonl"]))
    assert 1 <= auto["thoughts"] <= 10
    said(capsys, [*base, "--thought-noise", "0.5", "--samples", "2"])


def test_generate_reads_files(capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text(f"{QUESTION}\n\n{QUESTION[:-1]}b\n")
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(
        json.dumps({"id": "x", "question": QUESTION})
        + "\n"
        + json.dumps({"prompt": QUESTION[:-1] + "b"})
        + "\n"
    )
    options = ["--max-new-tokens", "3", "--jsonl", "--batch-size", "1"]
    first = [
        json.loads(line)
        for line in said(capsys, ["generate", str(trained_run), "--input", str(lines), *options]).splitlines()
    ]
    second = [
        json.loads(line)
        for line in said(capsys, ["generate", str(trained_run), "--input", str(rows), *options]).splitlines()
    ]
    assert [row["id"] for row in first] == ["1", "3"]
    assert [row["id"] for row in second] == ["x", "2"]
    assert [row["completion"] for row in first] == [row["completion"] for row in second]
    together = said(
        capsys, ["generate", str(trained_run), "--input", str(rows), "--max-new-tokens", "3", "--jsonl"]
    )
    assert [json.loads(line)["completion"] for line in together.splitlines()] == [
        row["completion"] for row in second
    ]
    rows.write_text('{"question": "a"}\n{"query": "b"}\n')
    assert f"{rows}, line 2" in said(capsys, ["generate", str(trained_run), "--input", str(rows)], 2)
    rows.write_text("")
    assert "no prompts" in said(capsys, ["generate", str(trained_run), "--input", str(rows)], 2)


def test_generate_says_what_the_model_cannot_read(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    base = ["generate", str(trained_run)]
    assert "prompt 1: its" in said(capsys, [*base, " ".join([QUESTION] * 40)], 2), "longer than the context"
    assert "and 9000 thoughts leave no room" in said(capsys, [*base, QUESTION, "--thoughts", "9000"], 2)
    assert "PROMPT is empty" in said(capsys, [*base, " "], 2)
    assert "a folder, not a file" in said(capsys, [*base, "--input", str(tmp_path)], 2)
    said(capsys, [*base, QUESTION, "--max-new-tokens", "999999", "--temperature", "50"])
    capsys.readouterr()
    assert main([*base, "hello there", "--max-new-tokens", "2"]) == 0
    assert "not in the model's vocabulary" in capsys.readouterr().err


def test_damaged_models_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(trained_run / "model", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("ln_1.bias"))
    save_file({n: w for n, w in weights.items() if n != name}, folder / "model.safetensors", {"format": "pt"})
    (line,) = said(capsys, ["generate", str(folder), QUESTION], 1).splitlines()
    assert f"missing {name}" in line
    (folder / "config.json").write_text("{")
    assert "config.json: not JSON" in said(capsys, ["generate", str(folder), QUESTION], 1)


def test_generate_mixed(capsys: pytest.CaptureFixture[str], trained_run: Path) -> None:
    shown = json.loads(
        said(
            capsys,
            ["generate", str(trained_run), QUESTION, "--mix", "0.5", "--max-new-tokens", "6", "--jsonl"],
        )
    )
    assert 1 <= shown["thoughts"] <= 6, "in mixed decoding every reasoning token is a thought too"


def test_evaluate_wrote_results_and_compare_reads_them(
    capsys: pytest.CaptureFixture[str], trained_run: Path
) -> None:
    for control in ("none", "no-thought", "pause", "shuffled", "noised"):
        results = json.loads((trained_run / "results/hops" / control / "results.json").read_text())
        assert results["control"] == control
        assert results["accuracy"]["n"] == 8
    none, shuffled = (str(trained_run / "results/hops" / control) for control in ("none", "shuffled"))
    (found,) = json.loads(said(capsys, ["compare", none, shuffled, "--json"]))
    assert found["difference"]["n"] == 8
    assert "McNemar" in said(capsys, ["compare", none, shuffled])


@pytest.mark.parametrize("task", list_tasks())
def test_every_task_scores_a_smoke_run(
    task: str, capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    arguments = [
        "evaluate",
        str(trained_run),
        "--task",
        task,
        "--smoke",
        "--limit",
        "3",
        "--max-new-tokens",
        "3",
        "--output",
        str(tmp_path),
    ]
    said(capsys, arguments)
    assert (
        json.loads((tmp_path / "results" / task / "none" / "results.json").read_text())["accuracy"]["n"] == 3
    )


def test_grade_again(capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path) -> None:
    folder = trained_run / "results/hops/none"
    before = (folder / "samples.jsonl").read_bytes()
    assert "0 of 8 verdicts changed" in said(capsys, ["grade", str(folder)])
    rows = [json.loads(line) for line in before.decode().splitlines()]
    rows[0]["completion"] = f"### {rows[0]['gold']}"
    edited = tmp_path / "edited" / "samples.jsonl"
    edited.parent.mkdir()
    edited.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = said(capsys, ["grade", str(edited), "--output", str(tmp_path / "new")])
    assert "1 of 8 verdicts changed" in shown
    assert json.loads((tmp_path / "new" / "results.json").read_text())["counts"]["correct"] == 1
    assert (folder / "samples.jsonl").read_bytes() == before, "nothing is overwritten"
    said(capsys, ["grade", str(folder), "--task", "gsm8k", "--output", str(tmp_path / "other")])
    other = tmp_path / "other"
    assert json.loads((other / "results.json").read_text())["task"] == "gsm8k"
    assert json.loads((other / "samples.jsonl").read_text().splitlines()[0])["task"] == "gsm8k"
    assert "not empty" in said(capsys, ["grade", str(folder), "--output", str(other)], 2)
    assert f"it lies in {trained_run / 'results/hops/no-thought'}" in said(
        capsys, ["grade", str(trained_run)], 2
    )
    (tmp_path / "foreign.jsonl").write_text('{"question": "1 + 1"}\n')
    assert "it has question" in said(capsys, ["grade", str(tmp_path / "foreign.jsonl")], 2)


def test_a_prompt_that_was_never_asked_stays_so_when_graded(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    arguments = [
        "evaluate",
        str(trained_run),
        "--task",
        "hops",
        "--smoke",
        "--limit",
        "3",
        "--thoughts",
        "9000",
    ]
    assert "3 of 3 prompts do not fit" in said(capsys, [*arguments, "--output", str(tmp_path)])
    folder = tmp_path / "results/hops/none"
    said(capsys, ["grade", str(folder), "--output", str(tmp_path / "again")])
    assert json.loads((tmp_path / "again/results.json").read_text())["counts"]["unfit"] == 3


def test_export_is_a_plain_model(
    capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from latentthought import LatentThoughtForCausalLM

    output = tmp_path / "plain"
    said(capsys, ["export", str(trained_run), "--output", str(output)])
    plain = AutoModelForCausalLM.from_pretrained(output)
    latent = LatentThoughtForCausalLM.from_pretrained(trained_run / "model")
    assert type(plain) is type(latent.base)
    ids = AutoTokenizer.from_pretrained(output)(QUESTION, return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, latent(input_ids=ids).logits)
    assert "not empty" in said(capsys, ["export", str(trained_run), "--output", str(output)], 2)
    assert "completion" in said(
        capsys, ["generate", str(output), QUESTION, "--jsonl", "--max-new-tokens", "3"]
    ), "text from a plain model"


def test_plot_of_a_run(capsys: pytest.CaptureFixture[str], trained_run: Path, tmp_path: Path) -> None:
    written = said(capsys, ["plot", str(trained_run), "--output", str(tmp_path / "figures")]).splitlines()
    names = {Path(path).name for path in written}
    assert {
        f"{figure}.{suffix}" for figure in ("loss", "mix_ratio", "scale") for suffix in ("png", "svg", "csv")
    } <= names
    assert all(Path(path).stat().st_size > 0 for path in written)


def test_unfinished_run_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    assert "has not finished" in said(capsys, ["generate", str(tmp_path), "hello"], 2)
