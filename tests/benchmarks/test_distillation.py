"""The benchmark of distillation: its sides do the work that they say, on rows of their own, and wrong ones are caught."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import distillation, taught_steps
from benchmarks.agreement import Disagreement
from benchmarks.distillation import ProjectorAlone, check, more, sides_of, targets_of
from benchmarks.settings import Settings
from benchmarks.taught_steps import CACHED, CACHED_BATCH, FORWARD, LIVE, ONE_PASS, STEP, TWO_PASSES, prepare
from benchmarks.timing import Timing
from benchmarks.workload import Sizes
from latentthought.objective.comparison import TeacherOutput

SIZES = replace(Sizes().quick(), thoughts=3, batch=2)


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def work(tmp_path):
    return prepare(Settings(sizes=SIZES, quick=True, rounds=2, silent=True), tmp_path)


def test_quick_run(tmp_path, capsys):
    file = tmp_path / "results.json"
    options = ["--quick", "--rounds", "1", "--threads", "1", "--output", str(file)]
    assert command.main(["distillation", *options]) == 0
    assert "**A training step**" in capsys.readouterr().out
    (found,) = json.loads(file.read_text())["benchmarks"]
    assert found["data"]["student alone (ce)"]["ratio"] == 1.0
    assert all(len(side["seconds"]) == 1 for side in found["data"].values())
    assert {target["side"] for target in found["targets"]} == {LIVE, ONE_PASS}


def test_what_is_read_and_compared(work):
    """Sizes in closed form: 2 rows of 3 thoughts; the teacher has 3 steps of STEP words in place of 3 thoughts."""
    batch = work.steps[LIVE].batch(0)
    assert batch["input_ids"].shape == (2, SIZES.sequence)
    assert batch["thought_mask"].sum(1).tolist() == [3, 3]
    assert work.reading["input_ids"].shape == (2, SIZES.sequence - 3 + 3 * STEP)
    assert (work.pairs, work.layer_pairs) == (6, 2)
    places = batch["comparisons"]["hidden"]
    first = SIZES.first_thought
    assert places.student.columns_M.tolist() == 2 * [first, first + 1, first + 2]
    assert places.teacher.columns_M.tolist() == 2 * [first + STEP * (k + 1) - 1 for k in range(3)]
    kl = work.steps[taught_steps.DIVERGENCE].batch(0)["comparisons"]["kl"]
    assert len(kl.student) == 2 * (SIZES.labelled + 1)


def test_every_step_reads_rows_that_it_has_not_seen(work, monkeypatch):
    cache, read = work.batches[CACHED_BATCH].trainer.teaching._cache, []
    states = cache.states
    monkeypatch.setattr(cache, "states", lambda id, *rest: read.append(id) or states(id, *rest))
    for _ in range(3):
        work.batches[CACHED_BATCH].next_batch()
    assert len(set(read)) == 3 * SIZES.batch


def test_a_step_trains_what_it_uses(work):
    projector = work.student.companions["hidden"].maps[0][0].weight
    word = work.student.get_input_embeddings().weight
    for name, moves in ((taught_steps.ALONE, False), (CACHED, True)):
        before = projector.detach().clone(), word.detach().clone()
        work.steps[name].run()
        assert not torch.equal(before[1], word)
        assert torch.equal(before[0], projector) is not moves
        assert word.grad is None
    assert not any(parameter.requires_grad for parameter in work.teacher.model.parameters())


def test_the_sides_agree(work):
    found = check(work)
    assert "of the live teacher's" in found[CACHED]
    assert found[ONE_PASS].startswith("same: loss")
    steps, parts = sides_of(work)
    assert list(found) == [side.name for side in steps]
    for side in (*steps, *parts):
        side.run()


def test_states_of_another_layer_fail(work):
    teaching = work.steps[CACHED].trainer.teaching
    teaching._columns = dict(zip(teaching._columns, reversed(teaching._columns.values()), strict=True))
    with pytest.raises(Disagreement, match="cached states, bf16: loss"):
        check(work)


def test_a_second_pass_that_reads_something_else_fails(work, monkeypatch):
    honest = taught_steps.TwoPasses._teacher_output

    def wrong(trainer, inputs):
        taught = honest(trainer, inputs)
        return TeacherOutput({layer: 1.1 * s.flip(1) for layer, s in taught.captured.items()}, taught.head)

    monkeypatch.setattr(taught_steps.TwoPasses, "_teacher_output", wrong)
    with pytest.raises(Disagreement, match="self distillation, one pass: loss"):
        check(work)


def test_the_projector_alone_does_whole_steps():
    """A linear map's gradients by hand: its first AdamW step moves every weight by the rate, against the gradient's sign."""
    alone = ProjectorAlone("linear", (4, 6), 5, 1, Settings(sizes=SIZES, quick=True, silent=True))
    weight = alone.projectors.maps[0][0].weight
    before = weight.detach().clone()
    gradient = alone.gradient[:, 0].T @ alone.states[:, 0].detach()
    alone.run()
    moved = weight.detach() - before
    # a constant gradient moves AdamW by the rate each time; decay is 1 % of the rate
    steps = distillation.REPEATS * 1e-5
    assert torch.allclose(moved, -steps * gradient.sign(), atol=0.05 * steps)


def test_the_claim_of_a_gpu_is_judged_on_a_gpu():
    timings = dict.fromkeys(
        (LIVE, FORWARD, ONE_PASS, TWO_PASSES, distillation.S3_PROJECTOR), Timing((0.001, 0.002, 0.001))
    )
    names = [target.side for target in targets_of(timings, Settings(device=torch.device("cuda")))]
    assert names == [LIVE, ONE_PASS, distillation.S3_PROJECTOR]
    assert targets_of(timings, Settings(device=torch.device("cuda")))[-1].value == 1.0


def test_differences_are_paired():
    # the machine was slower by a second in the second round
    assert more(Timing((1.5, 2.5, 1.5)), Timing((1.0, 2.0, 1.0))) == 0.5


def test_blocks_of_the_document():
    reports = [
        distillation.Findings(name, "", [], []) for name in ("grading", "cache", "divergence", "distillation")
    ]
    where = dict.fromkeys(("command", "date", "commit", "machine", "model", "python", "disturbed"), "") | {
        "quick": True
    }
    assert list(command.blocks_of(where, reports, "cpu")) == [f"benchmarks {r.name}" for r in reports]
    assert list(command.blocks_of(where, reports, "cuda")) == [
        *(
            "benchmarks grading",
            "benchmarks cache",
            "benchmarks divergence cuda",
            "benchmarks distillation cuda",
        )
    ]
