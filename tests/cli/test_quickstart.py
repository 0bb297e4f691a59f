"""The quickstart end to end at smoke size, and the budget that its arms get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.cli.arms import MEANINGS, recipe_of, steps_by_stage, write_recipe
from latentthought.recipe import load_recipe


def test_arms_get_the_thinking_arms_budget(tmp_path: Path) -> None:
    metrics = [(10, 0), (20, 0), (22, 1), (30, 2), (35, 1), (40, 2), (50, 3), (60, 4), (70, 5)]
    lines = [
        f'{{"step": {step}, "stage": "s{stage}", "stage_index": {stage}, "loss": 1.0}}\n'
        for step, stage in metrics
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    budget = steps_by_stage(tmp_path)
    assert budget == {0: 20, 1: 7, 2: 13, 3: 10, 4: 10, 5: 10}, "steps lost to a collapse count too"
    for name in MEANINGS:
        path = tmp_path / f"{name}.yaml"
        write_recipe(name, path, 5, budget)
        recipe = load_recipe(path)
        stages = recipe.curriculum.expand()
        assert sum(stage.steps for stage in stages) == 70
        assert all(stage.advance_at is None for stage in stages)
        assert recipe.seed == 5
        assert recipe.training == load_recipe("quickstart").training, "the same optimizer for every arm"
        assert recipe.model == load_recipe("quickstart").model, "the same model for every arm"
        assert [s.learning_rate for s in stages] == [
            s.learning_rate for s in load_recipe(recipe_of(name)).curriculum.expand()
        ]
    assert [stage.steps for stage in load_recipe(tmp_path / "pause.yaml").curriculum.expand()] == [
        20,
        7,
        13,
        10,
        10,
        10,
    ]


def test_quickstart_smoke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", "--smoke", "--arms", "thoughts,removal", "--seed", "3"]) == 0, (
        capsys.readouterr().err
    )
    shown = capsys.readouterr().out
    run = tmp_path / "runs" / "quickstart-001"
    assert "thought 5:" in shown
    assert "thoughts / shuffled" in shown
    report = (run / "report.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith("| ")][2:]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == [
        "thoughts",
        *(f"thoughts / {control}" for control in ("no-thought", "pause", "shuffled", "noised")),
        "removal",
    ]
    for figure in [line.split("(")[1].rstrip(")") for line in report.splitlines() if line.startswith("![")]:
        assert (run / figure).is_file()
    assert "<script" not in (run / "report.html").read_text()
    assert (run / "arms/removal/model/config.json").is_file()


def test_an_arm_that_emits_nothing_is_scored_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` ends with its exit code and all results; the arm keeps the word, and another failure stays one."""
    from latentthought.cli.arms import Arm, Crew
    from latentthought.errors import LatentThoughtError
    from tests.judged import judged, result

    arm = Arm("removal", tmp_path / "removal", tmp_path / "recipe.yaml")
    folder = arm.folder / "results/hops/none"
    folder.mkdir(parents=True)
    said = "import sys; print('latentthought: error: hops: ...'); sys.exit(2)"
    wait = Crew._wait
    monkeypatch.setattr(
        Crew, "_wait", lambda crew, command, *rest: wait(crew, [command[0], "-c", said], *rest)
    )
    crew = Crew(1, False, 4)
    with pytest.raises(LatentThoughtError, match=r"arm removal.*ended with exit code 2"):
        crew.score(arm)
    for texts, silent in ((["", " "], True), (["", "3"], False)):
        samples = [sample for n, text in enumerate(texts) for sample in judged(str(n), "3", text)]
        found = result(samples).model_copy(update={"task": "hops"})
        found.save(folder)
        lines = [json.dumps(sample.to_row()) + "\n" for sample in samples]
        (folder / "samples.jsonl").write_text("".join(lines))
        (folder.parent / "report.md").write_text("")
        arm.remark = ""
        if silent:
            crew.score(arm)
            assert arm.remark.startswith("removal: the model emits nothing")
        else:
            with pytest.raises(LatentThoughtError):
                crew.score(arm)


def test_a_failing_arm_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentthought.cli.arms.TASK", "no-such-task")
    assert main(["quickstart", "--smoke", "--arms", "no-thought", "--output", str(tmp_path / "q")]) == 1
    said = capsys.readouterr().err
    assert "arm no-thought" in said
    assert "unknown task 'no-such-task'" in said
    assert "Traceback" not in said
