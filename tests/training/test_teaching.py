"""Training with a teacher: the log against a computation row by row, and the invariants of training with all of it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from latentthought.cli.states import extract
from latentthought.errors import ConfigError
from latentthought.objective.alignment import sites
from latentthought.processes import ALONE
from latentthought.training.monitor import CLOCKED
from latentthought.training.preparation import prepare
from latentthought.training.progress import Silent
from latentthought.training.run import train

TEACHER = {"scratch": {"architecture": "llama", "layers": 3, "width": 24, "heads": 2, "max_positions": 64}}
PLAIN = {"model": {"scratch": {"architecture": "llama", "layers": 2}}, "teacher": TEACHER}
SGD = {"optimizer": "sgd", "learning_rate": 0.2, "log_every": 1, "max_grad_norm": 0.0}
HIDDEN = {
    "term": "hidden",
    "weight": 0.5,
    "target": "teacher",
    "alignment": "step_ends",
    "layers": "middle_final",
    "projector": {"kind": "linear"},
}
KL = {"term": "kl", "weight": 0.3, "temperature": 2.0}
ALL = [{"term": "ce"}, HIDDEN, KL]
SELF = [
    {"term": "ce"},
    {"term": "ce", "of": "chain", "name": "words"},
    {"term": "hidden", "target": "teacher", "alignment": "answer", "layers": "all", "smooth_l1": 1.0},
]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCKED} for line in lines]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "model" / "model.safetensors")
    companions = run / "companions.safetensors"
    return {**tensors, **(load_file(companions) if companions.is_file() else {})}


def assert_close_runs(left: Path, right: Path, tolerance: float) -> None:
    for name, tensor in weights_of(left).items():
        assert torch.allclose(tensor, weights_of(right)[name], atol=tolerance), name
    for mine, theirs in zip(metrics_of(left), metrics_of(right), strict=True):
        for key in mine:
            assert mine[key] == pytest.approx(theirs[key], abs=2e-5), key


def test_the_log_equals_a_computation_row_by_row(make_recipe, tmp_path: Path) -> None:
    """The words of the text stage, computed by the two plain models alone: no masks, no padding, no gathering."""
    recipe = make_recipe(
        **PLAIN,
        objective=ALL,
        curriculum={"each": {"steps": 1}, "replay": 0.0},
        training={**SGD, "learning_rate": 1e-9},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    first = metrics_of(tmp_path / "run")[0]
    prepared = prepare(recipe)
    model, guidance = prepared.model.eval(), prepared.guidance
    teacher, projectors = guidance.teacher.model, model.companions["hidden"]
    distances, divergences, pairs = [], [], guidance.objective.layer_pairs["hidden"]
    assert pairs == ((1, 2), (-1, -1))
    for slot in range(8):
        reading = prepared.dataset[slot].reading
        index = prepared.dataset.example_index(prepared.plan.at(0), slot)
        theirs = guidance.teaching.readings[index]
        with torch.no_grad():
            mine = model.base(torch.tensor([reading.row.ids]), output_hidden_states=True)
            taught = teacher.base(torch.tensor([theirs.row.ids]), output_hidden_states=True)
        ends = [
            len(reading.encoded.prompt) + sum(map(len, reading.encoded.steps[: k + 1])) - 1
            for k in range(len(reading.encoded.steps))
        ]
        for end in ends:  # both have the same tokenizer, and rows in words are the same rows
            for place, (s, t) in enumerate(pairs):
                projected = projectors.maps[place](mine.hidden_states[s][0, end])
                target = taught.hidden_states[t][0, end]
                distances.append(
                    F.mse_loss(projected, target) + 1 - F.cosine_similarity(projected, target, dim=0)
                )
        for position in range(len(reading.encoded.prompt), len(reading.row.ids)):
            p = (taught.logits[0, position - 1] / 2).softmax(-1)
            q = (mine.logits[0, position - 1] / 2).softmax(-1)
            divergences.append(4 * (p * (p / q).log()).sum())
    assert first["loss_hidden"] == pytest.approx(float(sum(distances).detach() / len(distances)), rel=1e-5)
    assert first["loss_kl"] == pytest.approx(float(sum(divergences) / len(divergences)), rel=1e-4)
    assert first["loss_hidden_weighted"] == pytest.approx(0.5 * first["loss_hidden"], rel=1e-6)
    assert first["loss"] == pytest.approx(
        first["loss_ce"] + 0.5 * first["loss_hidden"] + 0.3 * first["loss_kl"], rel=1e-6
    )


@pytest.mark.parametrize(
    ("teacher", "terms"), [(TEACHER, ALL), ({"model": "self"}, SELF)], ids=["teacher", "self"]
)
def test_micro_batches_do_not_matter(make_recipe, tmp_path: Path, teacher: dict, terms: list) -> None:
    for micro in (8, 1):
        recipe = make_recipe(
            **{**PLAIN, "teacher": teacher},
            objective=terms,
            curriculum={"each": {"steps": 3}},
            training={**SGD, "learning_rate": 0.05},
            engine={"micro_batch_size": micro},
        )
        train(recipe, tmp_path / str(micro), progress=Silent())
    assert_close_runs(tmp_path / "8", tmp_path / "1", 5e-6)


def test_the_chain_of_thought_is_read_once_and_teaches_without_being_taught(make_recipe) -> None:
    recipe = make_recipe(**{**PLAIN, "teacher": {"model": "self"}}, objective=SELF)
    prepared = prepare(recipe)
    model, objective = prepared.model.eval(), prepared.guidance.objective
    batch = _batch(prepared, recipe.curriculum, slots=range(96, 104))  # two latent steps
    chain = {k: v for k, v in batch["chain"].items() if k not in ("regions", "labels")}
    alone = model(**chain, capture=objective.student_layers)
    given = {k: v for k, v in batch.items() if k not in ("regions", "slot", "moment", "comparisons", "chain")}
    counts = objective.counts(batch)

    def score(model: Any, output: Any) -> Any:
        for layer, state in output.reading.captured.items():
            assert torch.equal(state, alone.captured[layer])
        return objective(model, output, batch, counts)

    reading = {k: v for k, v in batch["chain"].items() if k != "regions"}
    value = model(**given, reading=reading, capture=objective.student_layers, score=score).value
    value.weighted["hidden"].backward(retain_graph=True)
    grown = model.base.get_input_embeddings().weight.grad.abs().sum(-1) > 0
    words_only = set(batch["chain"]["input_ids"].flatten().tolist()) - set(
        batch["input_ids"].flatten().tolist()
    )
    assert words_only, "the steps' words stand in the chain alone"
    assert not any(grown[token] for token in words_only), "the teacher's side carries no gradient"


def _batch(prepared: Any, curriculum: Any, slots: range) -> dict[str, Any]:
    from latentthought.training.dataset import StageCollator

    collate = StageCollator(prepared.tokenizer.pad_token_id, curriculum, prepared.guidance.teaching)
    return collate([prepared.dataset[slot] for slot in slots])


def test_no_teacher_in_model_checkpoint_or_optimizer(make_recipe, tmp_path: Path) -> None:
    recipe = make_recipe(**PLAIN, objective=ALL, curriculum={"each": {"steps": 2}})
    train(recipe, tmp_path / "run", progress=Silent())
    bare = prepare(make_recipe(model=PLAIN["model"]))
    assert (
        load_file(tmp_path / "run" / "model" / "model.safetensors").keys() <= bare.model.state_dict().keys()
    )
    saved = load_file(next((tmp_path / "run").glob("checkpoint-*")) / "model.safetensors")
    extra = saved.keys() - bare.model.state_dict().keys()
    assert {name.split(".")[0] for name in extra} == {"companions"}
    from latentthought import LatentThoughtForCausalLM

    LatentThoughtForCausalLM.from_pretrained(
        tmp_path / "run" / "model"
    )  # strict: nothing is missing, nothing too many


def test_projectors_learn_at_a_rate_of_their_own(make_recipe, tmp_path: Path) -> None:
    """Plain gradient descent for one step: the weights move by rate times gradient, each at its own rate."""
    moved = []
    for rate in (None, 0.02):
        projector = {"kind": "linear", "learning_rate": rate}
        recipe = make_recipe(
            **PLAIN,
            objective=[{"term": "ce"}, {**HIDDEN, "projector": projector}],
            curriculum={"each": {"steps": 1}},
            training={**SGD, "max_steps": 1, "warmup_steps": 0},
        )
        before = prepare(recipe).model.companions.state_dict()
        train(recipe, tmp_path / str(rate), progress=Silent())
        after = load_file(tmp_path / str(rate) / "companions.safetensors")
        moved.append({name: after[name] - tensor for name, tensor in before.items()})
    for name, by_run in moved[0].items():
        assert by_run.abs().max() > 0
        assert torch.allclose(moved[1][name], by_run * (0.02 / 0.2), atol=1e-7), name


def test_weights_move_by_schedule_over_the_run_and_over_each_stage(make_recipe, tmp_path: Path) -> None:
    schedule = {"kind": "linear", "start": 1.0, "end": 0.0}
    recipe = make_recipe(
        **PLAIN,
        objective=[
            {"term": "ce"},
            {**HIDDEN, "weight": schedule},
            {**HIDDEN, "name": "again", "weight": {**schedule, "over": "stage"}},
        ],
        curriculum={"each": {"steps": 3}, "replay": 0.0},
        training={**SGD, "learning_rate": 1e-9},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    rows = metrics_of(tmp_path / "run")
    shares = [row["loss_hidden_weighted"] / row["loss_hidden"] for row in rows]
    assert shares == pytest.approx([1 - step / 8 for step in range(9)], abs=1e-6)
    staged = [row["loss_again_weighted"] / row["loss_again"] for row in rows]
    assert staged == pytest.approx([1.0, 0.5, 0.0] * 3, abs=1e-6)


def test_gradient_norms_on_request(make_recipe, tmp_path: Path) -> None:
    """With one micro-batch and no clipping, the norm of the only term is that of the step."""
    recipe = make_recipe(
        **{**PLAIN, "teacher": None},
        curriculum={"each": {"steps": 2}},
        training={**SGD, "gradient_norms": 2},
        engine={"micro_batch_size": 8},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    rows = metrics_of(tmp_path / "run")
    assert [("grad_norm_ce" in row) for row in rows] == [step % 2 == 0 for step in range(6)]
    for row in rows[::2]:
        assert row["grad_norm_ce"] == pytest.approx(row["grad_norm"], rel=1e-5)


@pytest.mark.parametrize(
    ("codec", "tolerance"), [("fp32", 1e-6), ("bf16", 1e-3), ("fp8", 0.03), ("int8", 0.03)]
)
def test_a_cached_teacher_gives_the_losses_of_a_live_one(
    make_recipe, tmp_path: Path, codec: str, tolerance: float
) -> None:
    """Ten steps of plain gradient descent; a distribution kept whole (k = every word) and states at all kinds of positions."""
    terms = [
        {"term": "ce"},
        {**KL, "temperature": 2.0},
        *(
            {**HIDDEN, "alignment": rule, "name": rule}
            for rule in ("step_ends", "pooled", "answer", "shared")
        ),
    ]
    cache = {
        "path": str(tmp_path / "states"),
        "codec": codec,
        "rows_per_shard": 5,
        "logits": {"kind": "top_k", "temperature": 2.0},
    }
    common = {
        "model": PLAIN["model"],
        "objective": terms,
        "training": {**SGD, "learning_rate": 0.02, "max_steps": 10},
    }
    live = make_recipe(**common, teacher=TEACHER)
    vocabulary = prepare(live).model.backbone.vocabulary
    cache["logits"]["k"] = vocabulary
    cached = make_recipe(**common, teacher={**TEACHER, "cache": cache})
    extract(cached, tmp_path / "states", ALONE, shown=False)
    for name, recipe in (("live", live), ("cached", cached)):
        train(recipe, tmp_path / name, progress=Silent())
    compared = 0
    for mine, theirs in zip(metrics_of(tmp_path / "live"), metrics_of(tmp_path / "cached"), strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine:
            if key.startswith("loss"):
                assert mine[key] == pytest.approx(theirs[key], rel=tolerance, abs=1e-7), key
                compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective": [{**HIDDEN, "projector": {"kind": "none"}}]},
            "16 wide, the teacher's 24",
        ),
        ({"objective": [{"term": "ce", "of": "chain"}]}, "say teacher.model: self"),
        ({"objective": [{**HIDDEN, "layers": [9]}]}, "student has no block 9; it has 0"),
        ({"objective": [{**HIDDEN, "layers": [[1, 7]]}]}, "teacher has no block 7"),
        ({"objective": [{**HIDDEN, "layer_weights": [1.0]}]}, "1 weights for 2 pairs"),
        ({"objective": [{**HIDDEN, "layers": "all"}]}, "2 blocks, the teacher 3"),
        (
            {
                "objective": [{**HIDDEN, "alignment": "reasoning"}],
                "curriculum": {"stages": [{"latent_steps": 2, "steps": 3}]},
            },
            "no position in common under the rule 'reasoning'",
        ),
        (
            {"objective": [KL], "teacher": {**TEACHER, "tokenizer": {"kind": "bytes", "vocab_size": 300}}},
            "one vocabulary",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_before_the_start(make_recipe, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(make_recipe(**{**PLAIN, **changes}))


def test_a_teacher_that_nothing_looks_at_is_said(make_recipe) -> None:
    prepared = prepare(make_recipe(**PLAIN))
    assert prepared.guidance.teacher is None
    assert any("not looked at by any term" in line for line in prepared.summary())


def test_a_run_of_ours_can_be_gone_on_from(make_recipe, tmp_path: Path) -> None:
    """The base inside, thought tokens and learnt scale included; not a wrapper in a wrapper."""
    mlp = {"scratch": {"architecture": "llama"}, "thought": {"scale": "mlp"}}
    train(make_recipe(model=mlp, curriculum={"each": {"steps": 2}}), tmp_path / "first", progress=Silent())
    onward = {"base": str(tmp_path / "first"), "scratch": None, "thought": {"scale": "mlp"}}
    model = prepare(make_recipe(model=onward)).model
    earlier = load_file(tmp_path / "first" / "model" / "model.safetensors")
    for name, tensor in model.state_dict().items():
        if name in earlier and name != "scale.target":
            assert torch.equal(tensor, earlier[name]), name


def test_stages_in_which_a_term_compares_nothing_are_named(make_recipe) -> None:
    """Thoughts share no text with a teacher's words: once all steps are thoughts, `reasoning` has nothing left."""
    terms = [{"term": "ce"}, {**HIDDEN, "alignment": "reasoning"}, {**HIDDEN, "name": "ends"}]
    prepared = prepare(make_recipe(**PLAIN, objective=terms, curriculum={"each": {"steps": 2}}))
    stages = [stage.name for stage in prepared.recipe.curriculum.expand()]
    (line,) = [line for line in prepared.guidance.lines if "nothing to compare" in line]
    assert line.strip().startswith(
        f"hidden: nothing to compare in stage {stages[-1]} by the rule 'reasoning'"
    )
    assert line in prepared.summary()
    assert prepared.guidance.teaching.report() == ""  # what was tried beforehand is no part of the account


def test_rows_without_anything_to_compare_are_counted(make_recipe, tmp_path: Path) -> None:
    rows = [{"question": f"a {n}", "steps": ["x"] if n % 4 else [], "answer": "y"} for n in range(16)]
    file = tmp_path / "mixed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = make_recipe(**PLAIN, objective=ALL, data={"path": str(file)}, curriculum={"each": {"steps": 2}})
    prepared = prepare(recipe)
    for slot in range(16):
        prepared.dataset[slot]
    report = prepared.guidance.teaching.report()
    assert report.startswith("4 rows had no position that student and teacher share")
    assert "(step_ends)" in report


def test_sites_of_the_rows_used_here_are_what_the_tests_assume(make_recipe) -> None:
    prepared = prepare(make_recipe(**PLAIN, objective=ALL))
    reading = prepared.dataset[0].reading
    assert len(sites(reading, "step_ends")) == len(reading.encoded.steps)
