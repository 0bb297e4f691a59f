"""Bad steps: told with their rows, left out, or gone back from; and the run is then what it would have been without them."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from latentthought.config import merge
from latentthought.errors import LatentThoughtError, Preempted
from latentthought.recipe import Recipe
from latentthought.training.incidents import BadSteps, Incident, IncidentLog, StepGuard
from latentthought.training.preparation import prepare
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.training.poison import Poison
from tests.training.ranks import run_on
from tests.training.test_resume import KillAt, Killed, assert_same_run, metrics_of

ROW = "bad-row"


@pytest.fixture
def spoilt(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    """Recipes with one row more, which alone has the word `z`; without replay, which would show it more often."""

    def made(**changes: Any) -> Recipe:
        recipe = make_recipe()
        file = Path(recipe.data.path or "")
        rows = file.read_text("utf-8")
        if ROW not in rows:
            row = {"id": ROW, "question": "a e z", "steps": ["a first", "e second"], "answer": "no"}
            file.write_text(rows + json.dumps(row) + "\n", "utf-8")
        values = {
            "model": {"tokenizer": {"kind": "words"}},
            "curriculum": {"replay": 0.0},
            "training": {"group_by_length": False},
        }
        return make_recipe(**merge(values, changes))

    return made


def policy(**settings: Any) -> dict[str, Any]:
    return {"training": {"bad_steps": settings}}


def incidents(run: Path) -> list[dict[str, Any]]:
    path = run / "incidents.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def steps_with_the_row(recipe: Recipe) -> list[int]:
    """Asked of the data set itself, from 0."""
    data, rows = prepare(recipe).dataset, recipe.training.batch_size
    every = range(data.plan.longest)
    return [
        step
        for step in every
        if any(data[slot].reading.row.id == ROW for slot in range(step * rows, (step + 1) * rows))
    ]


def test_a_stop_names_the_step_and_its_rows(spoilt, tmp_path: Path) -> None:
    recipe = spoilt(training={"log_every": 100, "save_every": 2})
    bad = steps_with_the_row(recipe)[0]
    with pytest.raises(LatentThoughtError) as raised:
        train(recipe, tmp_path / "run", progress=Silent(), callbacks=(Poison(ROW),))
    message = str(raised.value)
    assert f"the loss is nan at step {bad + 1} (stage text); rows " in message and ROW in message
    assert "--resume training.bad_steps.not_finite=skip" in message and raised.value.exit_code == 1
    # noticed before the next checkpoint is written
    saved = {int(p.name.removeprefix("checkpoint-")) for p in (tmp_path / "run").glob("checkpoint-*")}
    assert all(step <= bad for step in saved)
    # and the run goes on where the policy is another
    changed = recipe.replace(training={**recipe.training.dump(), "bad_steps": {"not_finite": "skip"}})
    result = train(changed, tmp_path / "run", resume=True, progress=Silent(), callbacks=(Poison(ROW),))
    assert result.steps == 18 and result.loss is not None


def test_a_skipped_step_changes_nothing(spoilt, tmp_path: Path) -> None:
    recipe = spoilt(
        **merge(policy(not_finite="skip"), {"training": {"log_every": 1, "save_every": 1, "keep_last": 99}})
    )
    poison = Poison(ROW)
    train(recipe, tmp_path / "run", progress=Silent(), callbacks=(poison,))
    bad = sorted(set(poison.steps))
    assert bad == steps_with_the_row(recipe) and len(bad) > 1
    starts = {
        leg.start for leg in prepare(recipe).plan.legs
    }  # where the scale is measured and moments are forgotten
    assert set(bad) - starts
    for step in set(bad) - starts:
        for name in ("model.safetensors", "optimizer.safetensors"):
            before, after = (
                load_file(tmp_path / "run" / f"checkpoint-{done}" / name) for done in (step, step + 1)
            )
            assert before.keys() == after.keys() and all(before[key].equal(after[key]) for key in before)
    rows = metrics_of(tmp_path / "run")
    assert [row["step"] - 1 for row in rows if row.get("skipped_steps")] == bad
    # a line of steps that were left out carries the last loss
    assert all(rows[step]["loss"] == rows[step - 1]["loss"] for step in bad if step)
    told = incidents(tmp_path / "run")
    assert [line["step"] - 1 for line in told] == bad
    for line in told:
        assert line["kind"] == "not_finite" and line["action"] == "skip"
        worst, *others = line["rows"]
        assert worst == {"id": ROW, "loss": None} and len(others) == recipe.training.batch_size - 1
        assert all(row["loss"] is not None for row in others)


@pytest.mark.parametrize("action", ["skip", "roll_back"])
def test_incidents_survive_kills(spoilt, tmp_path: Path, action: str) -> None:
    # a row in twenty-five is met in every third step, so a run that goes back has to have got on in between
    recipe = spoilt(**merge(policy(not_finite=action, limit=99), {"training": {"save_every": 1}}))
    train(recipe, tmp_path / "whole", progress=Silent(), callbacks=(Poison(ROW),))
    rng = random.Random(action)
    kills = [(rng.randint(1, 18), "optimizer") for _ in range(2)]
    for number, (step, moment) in enumerate(sorted(kills)):
        callbacks = (Poison(ROW), KillAt(step, moment))
        try:
            train(recipe, tmp_path / "run", resume=number > 0, progress=Silent(), callbacks=callbacks)
        except Killed:
            continue
    train(recipe, tmp_path / "run", resume=True, progress=Silent(), callbacks=(Poison(ROW),))
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert incidents(tmp_path / "run") == incidents(tmp_path / "whole") != []


def test_going_back_leaves_the_rows_out(spoilt, tmp_path: Path) -> None:
    recipe = spoilt(**merge(policy(not_finite="roll_back", limit=99), {"training": {"save_every": 2}}))
    run, first = tmp_path / "run", steps_with_the_row(recipe)[0]
    result = train(recipe, run, progress=Silent(), callbacks=(Poison(ROW),))
    assert result.steps == 18
    told = incidents(run)
    assert told[0]["step"] == first + 1 and told[0]["back_to"] == first // 2 * 2
    assert told[0]["rows"][0]["id"] == ROW
    # from the checkpoint on the rows are those that followed the bad step
    plain, ahead = prepare(recipe).dataset, prepare(recipe).dataset
    ahead.skipped_ahead = IncidentLog(run / "incidents.jsonl").skipped_ahead()[:1]
    start, width = ahead.skipped_ahead[0]
    leg = plain.plan.leg_at(start)
    assert width == first + 1 - start and ahead.plan.leg_at(first) == leg
    for step in range(leg.start, leg.stop - width):
        ids = [
            [data.rows[data.example_index(data.plan.at(step), place)].id for place in range(8)]
            for data in (plain, ahead)
        ]
        later = [plain.rows[plain.example_index(plain.plan.at(step + width), p)].id for p in range(8)]
        assert ids[1] == (later if step >= start else ids[0])


def test_too_many_incidents_stop_the_run(spoilt, tmp_path: Path) -> None:
    recipe = spoilt(**policy(not_finite="skip", limit=1))
    with pytest.raises(LatentThoughtError, match=r"as many bad steps as training\.bad_steps\.limit allows"):
        train(recipe, tmp_path / "run", progress=Silent(), callbacks=(Poison(ROW),))
    assert [line["action"] for line in incidents(tmp_path / "run")] == ["skip", "stop"]


def test_a_jump_is_found_and_its_row_named(spoilt, tmp_path: Path) -> None:
    settings = {"spike": "skip", "threshold": 6.0, "window": 16, "limit": 50}
    changes = {
        "curriculum": {"each": {"steps": 40}, "max_latent_steps": 1},
        "training": {"learning_rate": 1e-4},
    }
    recipe = spoilt(**merge(policy(**settings), changes))
    train(recipe, tmp_path / "run", progress=Silent(), callbacks=(Poison(ROW, 50.0),))
    told, having = incidents(tmp_path / "run"), steps_with_the_row(recipe)
    # the first sixteen steps of each leg have nothing to be compared with
    late = [
        step for step in having if step % 40 >= 16 + sum(s // 40 == step // 40 and s < step for s in having)
    ]
    assert late and {line["step"] - 1 for line in told} >= set(late[:1])
    assert all(line["kind"] == "spike" and line["rows"][0]["id"] == ROW for line in told)
    assert all(line["loss"] > line["expected"] for line in told)


def test_what_a_jump_is() -> None:
    guard = StepGuard(BadSteps(spike="skip", threshold=5.0, window=20), lambda v: v, torch.device("cpu"))
    rng = random.Random(0)
    losses = [2 + rng.gauss(0, 0.1) for _ in range(20)]
    for value in losses:
        guard.add(torch.tensor(value), True)
        assert guard.judge(1.0, True) is None
    middle = statistics.median(losses)
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in losses)
    for step, found in ((4.9, None), (5.1, "spike")):
        guard.add(torch.tensor(middle + step * deviation, dtype=torch.float64), True)
        verdict = guard.judge(1.0, True)
        assert (verdict and verdict[0]) == found
        if verdict is None:
            guard._losses.pop()
    guard.add(torch.tensor(100.0), True)
    assert guard.judge(1.0, comparable=False) is None
    assert guard.judge(float("nan"), comparable=False) == ("not_finite", 100.0, None)
    guard.start_leg()
    assert guard.judge(1.0, True) is None


def test_a_way_back_over_the_border_of_two_stages_leaves_out_rows_of_either(spoilt) -> None:
    data = prepare(spoilt()).dataset
    first, second, third = data.plan.legs
    back, bad = first.stop - 2, second.start + 1  # two steps of the first leg, and two of the second
    plain = {step: data.example_index(data.plan.at(step), 0) for step in range(third.stop)}
    ahead = {
        step: data.example_index(data.plan.at(step + 2), 0) for step in range(second.start, second.stop - 2)
    }
    data.skipped_ahead = [(back, bad + 1 - back)]
    found = {step: data.example_index(data.plan.at(step), 0) for step in range(third.stop)}
    assert all(found[step] == plain[step] for step in (*range(back), *range(third.start, third.stop)))
    assert all(found[step] == index for step, index in ahead.items())


def test_a_signal_outlives_a_way_back(spoilt, tmp_path: Path) -> None:
    recipe = spoilt(**merge(policy(not_finite="roll_back", limit=99), {"training": {"save_every": 1}}))

    class Told(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.global_step == steps_with_the_row(recipe)[0]:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match="which is to be left out; continue with --resume"):
        train(recipe, tmp_path / "run", progress=Silent(), callbacks=(Poison(ROW), Told()))
    assert [line["action"] for line in incidents(tmp_path / "run")] == ["roll_back"]
    assert (
        train(recipe, tmp_path / "run", resume=True, progress=Silent(), callbacks=(Poison(ROW),)).steps == 18
    )


def test_a_gradient_is_told_from_a_loss() -> None:
    guard = StepGuard(BadSteps(), lambda v: v, torch.device("cpu"))
    for step, (loss, norm) in enumerate([(2.0, 1.0), (3.0, float("nan")), (float("nan"), 1.0)]):
        guard.add(torch.tensor(loss), True)
        guard.note(step, torch.tensor(norm))
    assert guard.first_bad(lambda v: v) == (1, 3.0)
    # another rank's, of an earlier step
    assert guard.first_bad(lambda v: torch.cat([v, v.new_tensor([[0.0, float("inf")]])])) == (0, float("inf"))
    told = Incident(1, "text", "not_finite", "stop", 3.0, None, [("a", None)], 1).describe()
    assert told == "a gradient is not finite at step 2 (stage text); rows a"


@pytest.mark.slow
@pytest.mark.parametrize(
    "runs",
    [
        [("zero2", "skip"), ("zero3", "roll_back")],
        pytest.param([("fsdp2", "skip"), ("ddp", "roll_back")], marks=pytest.mark.full),
    ],
    ids=["zero", "torch"],
)
def test_several_processes_come_to_the_same_judgement(
    spoilt, tmp_path: Path, runs: list[tuple[str, str]]
) -> None:
    pytest.importorskip("deepspeed")
    changes = {"model": {"scratch": {"architecture": "llama"}}, "training": {"log_every": 1, "save_every": 1}}
    recipes = {
        action: spoilt(**merge(policy(not_finite=action, limit=99), changes))
        for action in ("skip", "roll_back")
    }
    for action, recipe in recipes.items():
        train(recipe, tmp_path / action, progress=Silent(), callbacks=(Poison(ROW),))
    jobs = []
    for strategy, action in runs:
        recipe = recipes[action]
        engine = {**recipe.engine.dump(), "strategy": strategy, "micro_batch_size": 2}
        jobs.append((recipe.replace(engine=engine), tmp_path / f"{strategy}-{action}", {"poison": ROW}))
    run_on(2, jobs, tmp_path / "jobs")
    for strategy, action in runs:
        run, alone = tmp_path / f"{strategy}-{action}", tmp_path / action
        assert [(i["step"], i["action"], i["rows"][0]["id"], i["back_to"]) for i in incidents(run)] == [
            (i["step"], i["action"], ROW, i["back_to"]) for i in incidents(alone)
        ]
        mine, theirs = metrics_of(run), metrics_of(alone)
        assert [row.get("loss") for row in mine] == pytest.approx(
            [row.get("loss") for row in theirs], abs=1e-4
        )
