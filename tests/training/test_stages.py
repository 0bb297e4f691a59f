"""The stage plan against closed forms, and decisions."""

from __future__ import annotations

import math

import pytest

from latentthought.data.curriculum import Curriculum
from latentthought.training.adaptive import LegWatch, Window
from latentthought.training.optimization import TrainingConfig
from latentthought.training.stages import StagePlan, epoch_rows


def plan_of(rows: int = 100, batch_size: int = 10, max_steps: int | None = None, **curriculum) -> StagePlan:
    values = {"method": "latent", "max_latent_steps": 2, "each": {"steps": 10}, **curriculum}
    return StagePlan(Curriculum.parse(values), rows, batch_size, seed=0, max_steps=max_steps)


def test_stages_follow_each_other() -> None:
    plan = plan_of()
    assert [plan.at(step).stage for step in range(30)] == [0] * 10 + [1] * 10 + [2] * 10
    assert [plan.at(step).local_step for step in (0, 9, 10, 29)] == [0, 9, 0, 9]
    assert plan.end == plan.longest == plan.nominal_steps == 30


def test_epochs_become_steps() -> None:
    plan = plan_of(rows=105, each={"epochs": 1.5})
    assert epoch_rows(105, 10) == 100
    assert plan.lengths == (15, 15, 15)
    assert epoch_rows(7, 10) == 7
    assert plan_of(rows=7, each={"epochs": 3}).lengths == (3, 3, 3)


def test_max_steps_cuts_without_changing_the_shape() -> None:
    plan = plan_of(max_steps=15)
    assert plan.end == 15
    assert plan.at(14).stage == 1


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("linear", lambda p: p),
        ("cosine", lambda p: (1 - math.cos(math.pi * p)) / 2),
        ("constant", lambda p: 1.0),
    ],
)
def test_mix_ratio_trajectory(kind: str, formula) -> None:
    mix = {"kind": kind, "start": 0.0, "end": 0.8}
    plan = StagePlan(Curriculum.parse({"method": "soft_mix", "mix": mix, "each": {"steps": 11}}), 50, 5)
    ratios = [plan.at(step).mix for step in range(33)]
    assert ratios[:11] == [0.0] * 11
    if kind != "constant":  # a constant stands for a straight line to it
        assert ratios[11:22] == pytest.approx([0.8 * formula(k / 10) for k in range(11)])
    assert ratios[22:] == [0.8] * 11


def test_learning_rate_trajectory() -> None:
    settings = TrainingConfig(warmup_steps=4, stage_warmup_steps=2, learning_rate=1.0)
    plan = plan_of(
        each={"steps": 10, "learning_rate": 0.5}, first={"learning_rate": 1.0}, last={"decay": "linear"}
    )
    rates = [settings.rate_factor(plan.at(step)) for step in range(30)]
    assert rates[:10] == [0.25, 0.5, 0.75] + [1.0] * 7
    assert rates[10:20] == [0.25] + [0.5] * 9
    assert rates[20:] == pytest.approx([0.25] + [0.5 * (1 - k / 10) for k in range(1, 10)])


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_decay_over_the_run(decay: str) -> None:
    settings = TrainingConfig(decay=decay, final_learning_rate=0.1)
    plan = plan_of()
    shape = (lambda p: 1 - p) if decay == "linear" else (lambda p: (1 + math.cos(math.pi * p)) / 2)
    rates = [settings.rate_factor(plan.at(step)) for step in range(30)]
    assert rates == pytest.approx([0.1 + 0.9 * shape(step / 30) for step in range(30)])


def test_replay_is_a_function_of_the_step_and_has_its_share() -> None:
    plan = plan_of(each={"steps": 1000}, replay=0.3)
    laid_out = [plan.at(step).laid_out for step in range(2000, 3000)]
    assert laid_out == [plan.at(step).laid_out for step in range(2000, 3000)]
    assert set(laid_out) == {0, 1, 2}
    assert 0.25 < sum(stage != 2 for stage in laid_out) / 1000 < 0.35
    assert all(plan.at(step).laid_out == 0 for step in range(1000))


def test_a_decision_takes_effect_after_the_prefetched_step() -> None:
    plan = plan_of(each={"steps": 100, "advance_at": 0.9})
    plan.decide(finished=20, stage=1, reason="learnt")
    assert [plan.at(step).stage for step in (20, 21)] == [0, 1]
    assert plan.at(21).starts_leg
    assert plan.end == 221
    assert [plan.at(step).stage for step in (120, 121)] == [1, 2]
    plan.decide(finished=130, stage=3, reason="learnt")
    assert plan.end == 131, "the last stage ended early, and with it the run"


def test_the_log_is_the_whole_state() -> None:
    plan = plan_of(each={"steps": 100, "advance_at": 0.9})
    plan.decide(20, 1, "learnt")
    plan.decide(50, 0, "collapse", 0.5)
    other = plan_of(each={"steps": 100, "advance_at": 0.9})
    other.restore(plan.log())
    assert [other.at(step) for step in range(other.end)] == [plan.at(step) for step in range(plan.end)]


def test_optimizer_resets_where_asked_and_after_a_collapse() -> None:
    plan = plan_of(reset_optimizer=True)
    assert [step for step in range(30) if plan.resets_optimizer(step)] == [10, 20]
    plan = plan_of(on_collapse={"below": 0.5})
    plan.decide(15, 0, "collapse", 0.5)
    assert [step for step in range(40) if plan.resets_optimizer(step)] == [16]
    assert plan.at(16).rate == 0.5
    assert plan.at(26).stage == 1
    assert plan.at(26).rate == 0.5


def feed(plan: StagePlan, accuracy, interval: int = 10) -> dict[int, str]:
    """Run the watch over a whole run with accuracy(moment); the decisions by step."""
    watch, decided, done = LegWatch(plan, interval), {}, 0
    while done < plan.end:
        done += 1
        if done % interval == 0:
            value = accuracy(plan.at(done - 1))
            decision = watch.observe(done, Window(value * 80, 80, interval))
            if decision is not None:
                decided[done] = f"{decision.reason} {decision.stage}"
    return decided


def test_a_learnt_stage_ends_early() -> None:
    plan = plan_of(each={"steps": 100, "advance_at": 0.9})
    decided = feed(plan, lambda moment: 0.95 if moment.local_step > 30 else 0.5)
    assert decided == {40: "learnt 1", 80: "learnt 2", 120: "learnt 3"}
    assert plan.end == 121


def test_a_collapse_goes_back_a_stage_at_a_lower_rate() -> None:
    plan = plan_of(each={"steps": 100}, on_collapse={"below": 0.3, "window": 20, "limit": 1})
    # fine until step 150, then lost; fine again after the return
    decided = feed(plan, lambda m: 0.1 if m.stage == 1 and m.leg == 1 and m.local_step > 50 else 0.9)
    assert decided == {170: "collapse 0"}
    assert plan.at(171).stage == 0
    assert plan.end == 171 + 300
    assert plan.end <= plan.longest


def test_a_stage_that_ends_unlearnt_is_a_collapse_and_the_limit_holds() -> None:
    plan = plan_of(each={"steps": 100}, on_collapse={"below": 0.3, "window": 20, "limit": 2})
    decided = feed(plan, lambda m: 0.1 if m.stage == 2 else 0.9)
    assert list(decided.values()) == ["collapse 1", "collapse 1"]
    assert plan.end <= plan.longest


def test_a_slow_start_of_a_stage_is_no_collapse() -> None:
    plan = plan_of(each={"steps": 100}, on_collapse={"below": 0.3, "window": 20})
    assert feed(plan, lambda m: 0.1 if m.local_step < 60 else 0.9) == {}
