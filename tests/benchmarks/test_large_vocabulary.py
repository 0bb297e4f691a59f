"""The benchmark of the divergence: wrong forms are caught, and its memory figures are those of the form."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import divergence
from benchmarks.agreement import Disagreement
from benchmarks.divergence import check
from benchmarks.divergence_forms import Case, Problem, ours, plain
from benchmarks.timing import peak_bytes

CPU = torch.device("cpu")
SMALL = Case(positions=12, words=101, width=8)


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_quick_run(tmp_path, capsys):
    file = tmp_path / "results.json"
    options = ["--quick", "--rounds", "1", "--threads", "1", "--output", str(file)]
    assert command.main(["divergence", *options]) == 0
    printed = capsys.readouterr().out
    assert "**head trained**" in printed
    (found,) = json.loads(file.read_text())["benchmarks"]
    for head in ("head trained", "head frozen"):
        assert list(found["data"][head]) == list(divergence.FORMS)
        assert found["data"][head]["written plainly"]["share"] == 1.0


@pytest.mark.parametrize("trained", [True, False])
def test_the_forms_agree(trained):
    found = check(Case(**{**vars(SMALL), "trained": trained}), CPU)
    assert list(found) == list(divergence.FORMS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda problem: 1.0001 * ours(problem), "wrong: loss"),
        (lambda problem: ours(problem).detach() + 0 * plain(problem), "wrong: the gradient of"),
    ],
)
def test_a_form_that_computes_something_else_fails(wrong, message):
    with pytest.raises(Disagreement, match=message):
        check(SMALL, CPU, {"wrong": wrong})


def test_a_machine_with_too_little_memory_is_told(monkeypatch):
    assert "GiB of free memory" in divergence._shortage(Case(positions=1 << 40), CPU)
    assert not divergence._shortage(SMALL, CPU)


@pytest.mark.skipif(not divergence.STATUS.exists(), reason="the resident set is read from /proc")
def test_the_resident_set_of_the_plain_form_holds_several_copies_of_the_logits():
    case = Case(positions=512, words=50_000, width=8)
    extra = divergence.resident_extra("written plainly", case, threads=1)
    assert 5 * case.logits_bytes < extra < 10 * case.logits_bytes
    assert divergence.resident_extra("latentthought", case, threads=1) < 3 * case.logits_bytes


def test_a_learning_head_costs_one_more_gradient_and_never_two(monkeypatch):
    case = Case(positions=64, words=2000, width=256)
    monkeypatch.setattr("latentthought.objective.chunks.CHUNK_ELEMENTS", 4 * case.words)
    monkeypatch.setattr("latentthought.objective.chunks.BLOCK_ELEMENTS", case.words)
    problem = Problem(case, CPU, torch.float32)
    extra = peak_bytes(lambda: problem.step(ours), CPU) - problem.left
    assert 1.0 * problem.head.weight.nbytes < extra < 1.2 * problem.head.weight.nbytes


def test_the_problem_has_one_matrix_for_both_sides():
    problem = Problem(SMALL, CPU, torch.float32)
    assert problem.head.weight.data_ptr() == problem.teacher_head.weight.data_ptr()
    assert not problem.teacher_head.weight.requires_grad
