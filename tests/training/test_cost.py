"""What a step costs: amounts counted by hand and by torch's own counter, rates recovered from planted ones, and runs added up."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

from latentthought import LatentThoughtForCausalLM, ThoughtConfig, load_recipe
from latentthought.model import backbone
from latentthought.training import duration as durations
from latentthought.training.calibration import Probes, carried_over, probe
from latentthought.training.cost import (
    KINDS,
    ModelSizes,
    Pass,
    Rates,
    Work,
    fitted,
    micro_work,
    passes_of,
    reading_work,
    step_work,
    with_attention,
)
from latentthought.training.duration import duration, sizes_of, step_shapes
from latentthought.training.hollow_step import StepShape, scored_passes
from latentthought.training.measured import Measured, measured, parsed
from latentthought.training.planned_models import planned_models
from latentthought.training.preparation import prepare

SIZES = ModelSizes(blocks=3, in_blocks=1000, inner=16, keys=8, width=20, vocabulary=50, trained=2000)
PROBES = Probes(product=1.0, reading=2.0, moving=4.0, calling=8.0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (StepShape(2, 10, 0, 5, 5), [Pass(15)]),
        (StepShape(2, 10, 3, 5, 5), [Pass(10), Pass(1, 10), Pass(1, 11), Pass(6, 12)]),
        (StepShape(2, 10, 1, 5, 5), [Pass(10), Pass(6, 10)]),
        (StepShape(2, 10, 3, 5, 5, "jacobi", 2), [Pass(12), Pass(2, 10), Pass(8, 10)]),
        (StepShape(2, 10, 2, 5, 5, "jacobi"), [Pass(11), Pass(1, 10), Pass(7, 10)]),
        (StepShape(2, 10, 3, 5, 5, "single_pass"), [Pass(10), Pass(2, 10, False), Pass(8, 10)]),
        (StepShape(2, 10, 10, 5, 5, "single_pass"), [Pass(19, gradient=False), Pass(25)]),
        (
            StepShape(2, 10, 0, 5, 5, chain=9, chain_labels=0),
            [Pass(9, gradient=False), Pass(15)],
        ),
    ],
)
def test_passes_of_each_method(shape: StepShape, expected: list[Pass]) -> None:
    assert passes_of(shape) == expected


def test_recomputed_passes_come_in_pieces(monkeypatch) -> None:
    monkeypatch.setattr(backbone, "PIECE_COLUMNS", 4)
    shape = StepShape(2, 10, 3, 5, 5)
    prefix, last = [Pass(4), Pass(4, 4), Pass(2, 8)], [Pass(3, 12), Pass(3, 15)]
    assert passes_of(shape, True) == [*prefix, Pass(1, 10), Pass(1, 11), *last]
    # without a cache, or without a gradient, a pass stays whole
    assert passes_of(StepShape(2, 10, 10, 5, 5, "single_pass"), True)[-1] == Pass(25)
    assert passes_of(StepShape(2, 10, 8, 5, 5, "single_pass"), True)[3] == Pass(7, 10, False)


def test_a_step_by_hand() -> None:
    """Two rows of 4 + 2 + 3 columns, 3 of them scored: passes over 4, 1 and 4 columns."""
    work = step_work(SIZES, StepShape(2, 4, 2, 3, 3))
    blocks = 6 * 1000 * 2 * 9
    assert work.products == blocks + 6 * 50 * 20 * 2 * 3
    # every position attends to itself and all before it: 1 + 2 + ... + 9
    assert work.attention == 3 * 4 * 3 * 16 * 2 * 45
    assert work.weights == 3 * 2 * 4 * 1000 + 2 * 4 * 50 * 20
    # the second pass finds keys and values of 4 columns, the third of 5
    cached = 3 * 3 * 4 * 2 * 8 * 2 * (4 + 5)
    assert work.activations == 3 * 4 * 10 * 20 * 3 * 2 * 9 + cached + 4 * 3 * 50 * 2 * 3
    assert work.calls == 3 * 3 * 3  # blocks, passes, forward and twice backward
    assert work.optimizer == 28 * 2000


def test_what_recomputing_adapters_and_accumulation_change() -> None:
    shape = StepShape(2, 4, 2, 3, 0)
    once, again = micro_work(SIZES, shape), micro_work(SIZES, shape, recomputing=True)
    ratios = {kind: getattr(again, kind) / getattr(once, kind) for kind in KINDS if kind != "optimizer"}
    assert ratios == pytest.approx(
        {"products": 4 / 3, "attention": 4 / 3, "weights": 3 / 2, "activations": 4 / 3, "calls": 4 / 3}
    )
    frozen = micro_work(dataclasses.replace(SIZES, share=0.0), shape)
    assert frozen.products == pytest.approx(once.products * 2 / 3) and frozen.weights == once.weights
    four = step_work(SIZES, shape, accumulation=4, optimizer="sgd")
    assert four.products == 4 * once.products and four.optimizer == 12 * 2000
    clipped = step_work(SIZES, shape, clipping=True)
    assert clipped.optimizer == (28 + 12) * 2000
    read = reading_work(SIZES, 2, 9)
    assert (read.products, read.weights, read.calls) == (2 * 1000 * 2 * 9, 4000, 3)


@pytest.mark.parametrize(
    ("before", "feedback", "iterations"),
    [
        (20, "sequential", None),
        (20, "jacobi", 2),
        (20, "single_pass", None),
        (4, "single_pass", None),
    ],
)
def test_products_are_torchs_own_count(before, feedback, iterations) -> None:
    layers, width, vocabulary = 2, 32, 60
    config = GPT2Config(vocab_size=vocabulary, n_layer=layers, n_head=2, n_embd=width, n_positions=64)
    base = GPT2LMHeadModel(config)
    base.set_attn_implementation("eager")  # the counter does not know the CPU's fused one
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig()).train()
    shape = StepShape(3, before, 4, 7, 6, feedback, iterations)
    with FlopCounterMode(display=False) as counter:
        scored_passes(model, shape).backward()
    sizes = ModelSizes(layers, 12 * layers * width**2, width, width, width, vocabulary, 0)
    # eager attention counts the whole rectangle, of which causality needs less
    whole = sum(
        4 * layers * width * 3 * one.columns * (one.cached + one.columns) * (3 if one.gradient else 1)
        for one in passes_of(shape)
    )
    assert micro_work(sizes, shape).products + whole == pytest.approx(counter.get_total_flops(), rel=0.01)


def planted() -> Rates:
    return Rates(Work(1e-11, 3e-11, 2e-10, 1e-10, 4e-5, 1.5e-10))


def shapes() -> list[tuple[ModelSizes, StepShape]]:
    """Points along each axis, as the benchmark has them."""
    found = []
    for width, blocks in ((128, 2), (256, 4), (512, 8), (1024, 12)):
        sizes = ModelSizes(blocks, 12 * blocks * width**2, width, width, width, 5000, 13 * blocks * width**2)
        for rows, thoughts, after in ((1, 1, 20), (4, 8, 40), (16, 2, 300), (4, 64, 40)):
            found.append((sizes, StepShape(rows, 60, thoughts, after, 11)))
    return found


def test_a_fit_recovers_planted_rates() -> None:
    works = [step_work(*point) for point in shapes()]
    times = [planted().seconds(work) for work in works]
    found = fitted(works, times)
    assert found.costs.amounts == pytest.approx(planted().costs.amounts, rel=1e-4)
    # and those that cost nothing stay at nothing, whatever noise would say
    none = Rates(Work(**{**dataclasses.asdict(planted().costs), "attention": 0.0}))
    noisy = [none.seconds(work) * (1 + 0.01 * (-1) ** place) for place, work in enumerate(works)]
    found = fitted(works, noisy)
    assert min(found.costs.amounts) >= 0
    assert found.costs.products == pytest.approx(1e-11, rel=0.1)
    assert found.parts(works[0]) == {
        kind: getattr(found.costs, kind) * getattr(works[0], kind) for kind in KINDS
    }


def test_a_fit_is_the_best_without_negative_rates() -> None:
    """Held against scipy's, which goes another way."""
    optimize = pytest.importorskip("scipy.optimize")
    import numpy as np

    works = [step_work(*point) for point in shapes()]
    generator = np.random.default_rng(0)
    times = np.array([planted().seconds(work) for work in works]) * generator.uniform(0.5, 2.0, len(works))
    rows = np.array([work.amounts for work in works]) / times[:, None]
    units = rows.max(0)
    expected, _ = optimize.nnls(rows / units, np.ones(len(works)))
    assert (expected == 0).any(), "a case in which plain least squares would go below 0"
    assert fitted(works, times).costs.amounts == pytest.approx(expected / units, rel=1e-6)


def test_rates_go_with_the_probes() -> None:
    here = Probes(product=2.0, reading=6.0, moving=16.0, calling=8.0)
    found = carried_over(Rates(Work(*[1.0] * 6)), PROBES, here).costs
    assert dataclasses.asdict(found) == {
        "products": 2.0,
        "attention": 2.0,
        "weights": 3.0,
        "activations": 4.0,
        "calls": 1.0,
        "optimizer": 4.0,
    }


def test_probes_of_this_machine() -> None:
    found = probe(rounds=1)
    # a CPU does 1 to 10,000 GFLOP/s, moves 0.1 to 1,000 GB/s, and starts an operation in 0.1 to 10,000 µs
    assert 1e-13 < found.product < 1e-9 and 1e-12 < found.moving < 1e-8 and 1e-7 < found.calling < 1e-2
    assert 1e-12 < found.reading < 1e-8


def known(**changes: object) -> Measured:
    most = {"thoughts": 64, "batch": 64, "sequence": 2048, "parameters": 774e6}
    given = {
        "rates": planted(),
        "probes": PROBES,
        "machine": "a machine",
        "threads": 2,
        "date": "2026-11-30",
        "most": most,
        "median_error": 0.05,
        "worst_error": 0.2,
    }
    return Measured(**{**given, **changes})


def test_what_was_measured_is_read_back() -> None:
    assert parsed(known().text()) == known()


def test_what_comes_with_the_package() -> None:
    ours = measured()
    assert ours.machine and ours.date and ours.most.keys() == known().most.keys()
    assert min(ours.rates.costs.amounts) >= 0 and ours.rates.seconds(step_work(*shapes()[0])) > 0


def test_beyond_what_was_measured() -> None:
    assert known().beyond(StepShape(64, 1000, 64, 900, 5), 774_000_000) == []
    assert known().beyond(StepShape(65, 4000, 65, 0, 5), 1_200_000_000) == [
        "65 thoughts",
        "65 rows at once",
        "rows of 4,065 positions",
        "a model of 1.2e+03 M parameters",
    ]


@pytest.mark.parametrize("name", ["quickstart", "cot-gpt2-gsm8k", "latent-thought-r1-1.5b"])
def test_the_batches_are_those_of_the_run(name: str) -> None:
    """Columns and labels as collation makes them."""
    from latentthought.training.dataset import StageCollator

    prepared = prepare(load_recipe(name, ("teacher=null", "objective=[{term: ce}]"), smoke=True), smoke=True)
    dataset = prepared.dataset
    collate = StageCollator(0, prepared.recipe.curriculum)
    for step in range(prepared.plan.end):
        size = dataset.batch_size
        batch = collate([dataset[step * size + place] for place in range(size)])
        (shape,) = step_shapes(prepared.recipe, dataset, step, size)
        assert (shape.rows, shape.positions) == tuple(batch["input_ids"].shape), step
        columns = batch["thought_mask"].any(0).nonzero().flatten() if dataset.plan.at(step).mix else []
        if batch["thought_columns"] is None and len(columns):
            assert (shape.before, shape.before + shape.thoughts) == (columns[0], columns[-1] + 1)
        elif batch["thought_columns"] is not None and dataset.plan.at(step).mix:
            start, stop = batch["thought_columns"]
            assert (shape.thoughts, not stop or shape.before) == (stop - start, not stop or start)
        assert shape.labels == round((batch["labels"][:, 1:] >= 0).sum().item() / size)


def test_a_run_is_the_sum_of_its_legs() -> None:
    """At a second a block and pass, which can be counted: one pass in the text stage, S + 1 in the stage of S thoughts."""
    changes = ("curriculum.replay=0", "model.scratch.layers=2")
    prepared = prepare(load_recipe("quickstart", changes, smoke=True), smoke=True)
    models = planned_models(prepared.recipe)
    rates = Rates(Work(calls=1.0))
    plan = prepared.plan
    longest = StepShape(prepared.recipe.training.batch_size, 20, 5, 5, 5)
    found = duration(models, longest, known(), rates, prepared.dataset.rows, prepared.dataset.tokens)
    expected = [3 * 2 * (plan.stages[plan.leg_at(step).stage].latent_steps + 1) for step in range(plan.end)]
    assert found.run == pytest.approx(sum(expected)) and found.longest == max(expected)
    assert (found.steps, found.beyond) == (plan.end, ())
    # in micro-batches of half the rows every pass is made twice
    half = dataclasses.replace(longest, rows=longest.rows // 2)
    again = duration(models, half, known(), rates, prepared.dataset.rows, prepared.dataset.tokens)
    assert again.run == pytest.approx(2 * sum(expected))
    # and the update, with its clipping, once
    update = Rates(Work(optimizer=1.0))
    found = duration(models, half, known(), update, prepared.dataset.rows, prepared.dataset.tokens)
    assert found.step == pytest.approx(40 * models.trained)


def test_without_rows_a_step_is_of_the_longest() -> None:
    models = planned_models(load_recipe("quickstart", ("model.scratch.layers=1",)))
    shape = StepShape(64, 50, 100, 4, 5)
    found = duration(models, shape, known(), planted())
    assert found.run is None and found.steps is None and "100 thoughts" in found.beyond
    assert found.step == pytest.approx(planted().seconds(step_work(sizes_of(models), shape, clipping=True)))


def test_without_rows_a_step_is_all_its_micro_batches() -> None:
    def seconds(batch: int) -> float:
        settings = (f"training.batch_size={batch}", "engine.micro_batch_size=4", "model.scratch.layers=1")
        passes = dataclasses.replace(planted().costs, optimizer=0.0)
        return duration(
            planned_models(load_recipe("quickstart", settings)),
            StepShape(4, 50, 6, 4, 5),
            known(),
            Rates(passes),
        ).step

    assert seconds(32) == pytest.approx(8 * seconds(4))


def test_long_rows_are_told_of_attention() -> None:
    none = Rates(dataclasses.replace(planted().costs, attention=0.0))
    assert with_attention(none).costs == dataclasses.replace(none.costs, attention=none.costs.products)
    assert with_attention(planted()).costs.attention >= planted().costs.attention


def test_threads_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(durations, "probe", lambda: (seen.append(torch.get_num_threads()), PROBES)[1])
    before = torch.get_num_threads()
    assert durations.rates_here(known(), threads=2) == planted()
    assert seen == [2] and torch.get_num_threads() == before
