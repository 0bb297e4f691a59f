"""Stages from a few lines, and the exact tokens of hand-written rows under every method."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.config import parse_yaml
from latentthought.data.curriculum import Curriculum, Stage, StageSettings
from latentthought.data.encoding import Encoded
from latentthought.errors import ConfigError
from latentthought.thoughts.layout import IGNORED, Region, ThoughtTokens
from latentthought.thoughts.schedule import MixSchedule

TOKENS = ThoughtTokens(start_id=91, end_id=92, thought_id=90)
ROW = Encoded("r", prompt=[1, 2], steps=[[3], [4, 5], [6]], answer=[7, 0])
EACH = {"each": {"epochs": 1}}


def curriculum(method: str, **settings) -> Curriculum:
    return Curriculum.parse({"method": method, **EACH, **settings})


def ids(made: Curriculum, stage: int, row: Encoded = ROW, rng: random.Random | None = None) -> list[int]:
    return made.layout(row, stage, rng, TOKENS).ids


# --- rows -------------------------------------------------------------------------------------------------------------


def test_latent_rows_stage_by_stage():
    made = curriculum("latent", thoughts_per_step=2, max_latent_steps=2, drop_rest=True)
    assert ids(made, 0) == [1, 2, 3, 4, 5, 6, 7, 0]
    assert ids(made, 1) == [1, 2, 91, 90, 90, 92, 4, 5, 6, 7, 0]
    assert ids(made, 2) == [1, 2, 91, 90, 90, 90, 90, 92, 6, 7, 0]
    assert ids(made, 3) == [1, 2, 91, 90, 90, 90, 90, 92, 7, 0]
    row = made.layout(ROW, 1, None, TOKENS)
    assert row.labels == [IGNORED] * 6 + [4, 5, 6, 7, 0]
    assert row.thoughts == 2


def test_row_with_fewer_steps_than_the_stage():
    short = Encoded("s", [1], [[3]], [7, 0])
    padded = curriculum("latent", max_latent_steps=3)
    assert ids(padded, 3, short) == [1, 91, 90, 90, 90, 92, 7, 0]
    unpadded = curriculum("latent", max_latent_steps=3, pad_to_max=False)
    assert ids(unpadded, 3, short) == [1, 91, 90, 92, 7, 0]
    assert ids(unpadded, 3, Encoded("n", [1], [], [7, 0])) == [1, 7, 0]


def test_rows_say_which_steps_are_still_in_words():
    made = curriculum("latent", thoughts_per_step=2, max_latent_steps=2, drop_rest=True)
    rows = [made.layout(ROW, stage, None, TOKENS) for stage in range(4)]
    assert [(row.first_step, row.per_step) for row in rows] == [(0, 2), (1, 2), (2, 2), (3, 2)]
    short = Encoded("s", [1], [[3]], [7, 0])
    assert curriculum("latent", max_latent_steps=3).layout(short, 3, None, TOKENS).first_step == 1
    assert curriculum("removal", max_latent_steps=2).layout(ROW, 2, None, TOKENS).first_step == 2
    assert curriculum("none").layout(ROW, 0, None, TOKENS).first_step == 3
    assert [curriculum(m).layout(ROW, 0, None, TOKENS).first_step for m in ("text", "soft_mix")] == [0, 0]
    drawn = curriculum("latent", max_latent_steps=2, uniform_prob=1.0)
    rows = [drawn.layout(ROW, 1, random.Random(seed), TOKENS) for seed in range(40)]
    assert {(row.first_step, row.thoughts, len(row.ids)) for row in rows} == {
        (0, 0, 8),
        (1, 1, 10),
        (2, 2, 9),
        (3, 2, 8),
    }


def test_pause_has_the_ids_of_latent_and_no_thoughts():
    latent, pause = (curriculum(m, max_latent_steps=2) for m in ("latent", "pause"))
    for stage in range(3):
        assert ids(latent, stage) == ids(pause, stage)
        assert pause.layout(ROW, stage, None, TOKENS).thoughts == 0
    assert (pause.thoughts(), pause.columns(2)) == (2, 0)


def test_removal_drops_steps_and_leaves_nothing():
    made = curriculum("removal", max_latent_steps=2, drop_rest=True)
    assert [ids(made, stage) for stage in range(4)] == [
        [1, 2, 3, 4, 5, 6, 7, 0],
        [1, 2, 4, 5, 6, 7, 0],
        [1, 2, 6, 7, 0],
        [1, 2, 7, 0],
    ]
    assert [stage.name for stage in made.expand()] == ["text", "removal-1", "removal-2", "removal-all"]
    assert made.thoughts() == made.columns(3) == 0


def test_text_and_none():
    assert ids(curriculum("text"), 0) == [1, 2, 3, 4, 5, 6, 7, 0]
    assert ids(curriculum("none"), 0) == [1, 2, 7, 0]


def test_soft_mix_rows_are_the_same_in_all_phases():
    made = curriculum("soft_mix", mix=0.5)
    for stage in range(3):
        row = made.layout(ROW, stage, None, TOKENS)
        assert row.ids == [1, 2, 91, 3, 4, 5, 6, 92, 7, 0]
        assert row.labels == [IGNORED, IGNORED, 91, 3, 4, 5, 6, 92, 7, 0]
        assert row.thought == [False] * 3 + [True] * 4 + [False] * 3
        assert made.columns(stage) is None


def test_delimiter_labels_can_be_chosen():
    made = curriculum("latent", max_latent_steps=1, label_end=True)
    assert made.layout(ROW, 1, None, TOKENS).labels == [IGNORED] * 4 + [92, 4, 5, 6, 7, 0]
    made = curriculum("soft_mix", label_start=False)
    assert made.layout(ROW, 1, None, TOKENS).labels[2] == IGNORED
    assert ids(curriculum("latent", max_latent_steps=1, delimiters=False), 1) == [1, 2, 90, 4, 5, 6, 7, 0]


def test_uniform_draw_is_a_function_of_the_random_numbers_and_stays_within_the_columns():
    made = curriculum("latent", max_latent_steps=2, uniform_prob=0.5)
    assert [made.columns(stage) for stage in range(3)] == [2, 2, 2]
    drawn = [made.layout(ROW, 1, random.Random(seed), TOKENS) for seed in range(200)]
    assert drawn == [made.layout(ROW, 1, random.Random(seed), TOKENS) for seed in range(200)]
    # three steps and at most two latent ones: 0, 1, 2 and "all", which has two thoughts and no words
    assert {(row.thoughts, row.regions.count(Region.STEP)) for row in drawn} == {
        (0, 4),
        (1, 3),
        (2, 1),
        (2, 0),
    }
    own = sum(row.thoughts == 1 for row in drawn) / len(drawn)
    assert 0.5 < own < 0.75  # 1/2 + 1/2 * 1/4


def test_longest_row_over_all_stages():
    made = curriculum("latent", thoughts_per_step=3, max_latent_steps=3)
    assert made.longest(ROW) == max(len(ids(made, stage)) for stage in range(4)) == 2 + 2 + 9 + 2
    assert curriculum("none").longest(ROW) == 4


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_row_keeps_its_parts_in_order(data):
    method = data.draw(st.sampled_from(["latent", "pause", "removal", "soft_mix", "text", "none"]))
    staged = {}
    if method in ("latent", "pause", "removal"):
        staged = {
            "max_latent_steps": data.draw(st.integers(1, 4)),
            "thoughts_per_step": data.draw(st.integers(1, 3)),
            "pad_to_max": data.draw(st.booleans()),
            "drop_rest": data.draw(st.booleans()),
            "uniform_prob": data.draw(st.sampled_from([0.0, 0.5])),
        }
    made = curriculum(method, **staged)
    token = st.integers(3, 89)
    row = Encoded(
        "r",
        data.draw(st.lists(token, min_size=1, max_size=5)),
        data.draw(st.lists(st.lists(token, max_size=3), max_size=5)),
        data.draw(st.lists(token, min_size=1, max_size=3)),
    )
    stage = data.draw(st.integers(0, len(made.expand()) - 1))
    laid = made.layout(row, stage, random.Random(data.draw(st.integers(0, 99))), TOKENS)
    assert len(laid.ids) == len(laid.labels) == len(laid.thought) == len(laid.regions) <= made.longest(row)
    assert Region.PAD not in laid.regions
    assert laid.ids[: len(row.prompt)] == row.prompt and laid.ids[-len(row.answer) :] == row.answer
    words = [token for step in row.steps for token in step]
    kept = [token for token, region in zip(laid.ids, laid.regions, strict=True) if region == Region.STEP]
    assert kept == words[len(words) - len(kept) :]
    columns = made.columns(stage)
    assert columns is None or laid.thoughts <= columns
    for token, label, region in zip(laid.ids, laid.labels, laid.regions, strict=True):
        if region in (Region.PROMPT, Region.THOUGHT):
            assert label == IGNORED
        elif region in (Region.STEP, Region.ANSWER):
            assert label == token
    # thoughts are one unbroken block that ends at the pivot
    places = [place for place, is_thought in enumerate(laid.thought) if is_thought]
    assert places == list(range(laid.pivot - len(places), laid.pivot))


# --- stages -----------------------------------------------------------------------------------------------------------


def test_short_form_from_yaml():
    text = """
    method: latent
    thoughts_per_step: 2
    max_latent_steps: 2
    replay: 0.3
    reset_optimizer: true
    each: {epochs: 3, advance_at: 0.98, learning_rate: 0.5}
    first: {epochs: 6, learning_rate: 1.0}
    last: {steps: 100, decay: linear}
    """
    made = Curriculum.parse(parse_yaml(text, "recipe.yaml"))
    first, middle, last = made.expand()
    assert [stage.name for stage in made.expand()] == ["text", "latent-1", "latent-2"]
    assert (first.epochs, first.learning_rate, first.replay, first.reset_optimizer) == (6, 1.0, 0.0, False)
    assert (middle.epochs, middle.learning_rate, middle.replay, middle.reset_optimizer) == (3, 0.5, 0.3, True)
    assert (last.steps, last.epochs, last.decay, last.advance_at) == (100, None, "linear", 0.98)
    assert [made.thoughts(stage) for stage in range(3)] == [0, 2, 4] and made.thoughts() == 4
    assert [made.columns(stage) for stage in range(3)] == [0, 2, 4]


def test_listed_stages_take_each_as_default():
    listed = [{"latent_steps": 0}, {"latent_steps": 2, "epochs": 2, "feedback": "jacobi"}]
    made = curriculum("latent", each={"steps": 10}, stages=listed)
    first, second = made.expand()
    assert (first.steps, first.latent_steps, first.feedback) == (10, 0, "sequential")
    assert (second.steps, second.epochs, second.latent_steps, second.feedback) == (None, 2, 2, "jacobi")
    assert made.columns(1) == 2


def test_stages_can_be_given_as_objects():
    made = Curriculum(
        method="latent", max_latent_steps=1, stages=(Stage(steps=3), Stage(steps=4, latent_steps="all"))
    )
    assert [stage.steps for stage in made.expand()] == [3, 4]
    assert made.thoughts() == 1


def test_soft_mix_has_three_phases():
    text, transition, mixed = curriculum("soft_mix", mix=0.6).expand()
    assert [stage.name for stage in (text, transition, mixed)] == ["text", "transition", "mixed"]
    assert text.mix == MixSchedule.constant(0.0) and text.feedback == "single_pass"
    assert (transition.mix.kind, transition.mix.at(0), transition.mix.at(1)) == ("linear", 0.0, 0.6)
    assert mixed.mix == MixSchedule.constant(0.6)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "latent", "max_latent_steps": 2, **EACH},
        {"method": "soft_mix", "mix": 0.5, "last": {"epochs": 2}, **EACH},
        {"method": "soft_mix", "mix": {"kind": "cosine", "end": 0.7}, **EACH},
        {"method": "text", "stages": [{"steps": 3}], "on_collapse": {"below": 0.5}},
    ],
)
def test_a_dumped_curriculum_reads_back_to_the_same_stages(settings):
    made = Curriculum.parse(settings)
    again = Curriculum.parse(made.dump())
    assert again == made and again.expand() == made.expand()


def test_with_steps_keeps_the_stages():
    made = curriculum("latent", max_latent_steps=2, last={"epochs": 50, "decay": "linear"})
    short = made.with_steps(2)
    assert [stage.steps for stage in short.expand()] == [2, 2, 2]
    assert [stage.name for stage in short.expand()] == [stage.name for stage in made.expand()]
    assert short.expand()[-1].decay == "linear" and short.thoughts() == made.thoughts()
    listed = curriculum("text", stages=[{"steps": 1}, {"epochs": 3}])
    assert [stage.steps for stage in listed.with_steps(2).expand()] == [1, 2], "at most"


def test_replay_draws_earlier_stages_at_the_given_share():
    made = curriculum("latent", max_latent_steps=3, replay=0.3)
    rng = random.Random(0)
    picked = [made.pick_stage(3, rng) for _ in range(2000)]
    assert 0.26 < sum(stage < 3 for stage in picked) / 2000 < 0.34
    assert set(picked) == {0, 1, 2, 3}
    assert {made.pick_stage(0, rng) for _ in range(50)} == {0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "latnt", **EACH}, "did you mean latent"),
        ({"method": "latent", **EACH}, "needs max_latent_steps"),
        ({"method": "latent", "max_latent_steps": 2}, "has no length"),
        (
            {"method": "latent", "max_latent_steps": 2, "each": {"epochs": 1, "steps": 2}},
            "steps or epochs, not both",
        ),
        (
            {"method": "latent", "max_latent_steps": 2, "each": {"epoch": 1}},
            "each.epoch: unknown key; did you mean epochs",
        ),
        (
            {"method": "text", "max_latent_steps": 2, **EACH},
            "only for the methods latent, removal, pause, not text",
        ),
        ({"method": "text", "stages": [{"latent_steps": 2, "steps": 1}]}, "latent_steps is only for"),
        ({"method": "latent", "stages": [{"latent_steps": "all", "steps": 1}]}, "give max_latent_steps"),
        (
            {"method": "latent", "max_latent_steps": 1, "stages": [{"latent_steps": 2, "steps": 1}]},
            "max_latent_steps 1",
        ),
        (
            {"method": "latent", "max_latent_steps": 1, "jacobi_iterations": 2, **EACH},
            "goes with feedback jacobi",
        ),
        (
            {"method": "text", "first": {"steps": 1}, "stages": [{"steps": 1}]},
            "first and last belong to the short form",
        ),
        ({"method": "latent", "stages": [{"latent_steps": -1, "steps": 1}]}, "0 or more, or 'all'"),
    ],
)
def test_settings_that_do_not_hold(settings, message):
    with pytest.raises(ConfigError, match=message):
        Curriculum.parse(settings, "recipe.yaml: curriculum")


def test_settings_object_says_what_it_leaves_open():
    assert StageSettings().dump() == dict.fromkeys(StageSettings.model_fields)


def test_a_stage_can_undo_the_early_end_that_every_stage_has():
    curriculum = Curriculum.parse(
        {
            "method": "latent",
            "max_latent_steps": 1,
            "each": {"steps": 10, "advance_at": 0.9},
            "last": {"advance_at": "never"},
        }
    )
    assert [stage.advance_at for stage in curriculum.expand()] == [0.9, None]
    assert Curriculum.parse(curriculum.dump()).expand() == curriculum.expand()
