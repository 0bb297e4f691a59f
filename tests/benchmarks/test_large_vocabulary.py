"""The benchmarks of losses over a large vocabulary: wrong forms are caught, and the memory figures are those of the form."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import cross_entropy, divergence, large_vocabulary
from benchmarks.agreement import Disagreement
from benchmarks.large_vocabulary import OURS, PLAIN, Case, Problem, check, resident_extra
from benchmarks.timing import peak_bytes
from latentthought.model import chunks

CPU = torch.device("cpu")
SMALL = Case(positions=12, words=101, width=8)
both = pytest.mark.parametrize(
    "benchmark_of", [divergence, cross_entropy], ids=["divergence", "cross_entropy"]
)


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def chunks_of_four(monkeypatch, case: Case) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4 * case.words * 4)
    monkeypatch.setitem(chunks.BLOCK_ELEMENTS, "cpu", case.words)


@both
def test_quick_run(benchmark_of, tmp_path, capsys):
    file = tmp_path / "results.json"
    options = ["--quick", "--rounds", "1", "--threads", "1", "--output", str(file)]
    assert command.main([benchmark_of.CONTEST.name, *options]) == 0
    printed = capsys.readouterr().out
    assert "**head trained**" in printed
    (found,) = json.loads(file.read_text())["benchmarks"]
    for head in ("head trained", "head frozen"):
        assert list(found["data"][head]) == list(benchmark_of.FORMS)
        assert found["data"][head][PLAIN]["share"] == 1.0


@both
@pytest.mark.parametrize("trained", [True, False])
def test_the_forms_agree(benchmark_of, trained, monkeypatch):
    chunks_of_four(monkeypatch, SMALL)
    found = check(replace(SMALL, trained=trained), CPU, benchmark_of.FORMS)
    assert list(found) == list(benchmark_of.FORMS)


def test_the_full_check_goes_through_several_chunks():
    states = torch.empty(large_vocabulary.REFERENCE_POSITIONS, Case.width)
    assert len(chunks.chunks_of(states, Case.words)) > 1


@both
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda forms, problem: 1.0001 * forms[OURS](problem), "wrong: loss"),
        (
            lambda forms, problem: forms[OURS](problem).detach() + 0 * forms[PLAIN](problem),
            "wrong: the gradient of",
        ),
    ],
)
def test_a_form_that_computes_something_else_fails(benchmark_of, wrong, message):
    forms = benchmark_of.FORMS
    with pytest.raises(Disagreement, match=message):
        check(SMALL, CPU, {PLAIN: forms[PLAIN], "wrong": lambda problem: wrong(forms, problem)})


def test_a_machine_with_too_little_memory_is_told():
    assert "GiB of free memory" in large_vocabulary._shortage(Case(positions=1 << 40), CPU)
    assert not large_vocabulary._shortage(SMALL, CPU)


@pytest.mark.skipif(not large_vocabulary.STATUS.exists(), reason="the resident set is read from /proc")
@pytest.mark.parametrize(
    ("benchmark_of", "copies"), [(divergence, (5, 10)), (cross_entropy, (2, 5))], ids=["kl", "cross-entropy"]
)
def test_the_resident_set_of_the_plain_form_holds_several_copies_of_the_logits(benchmark_of, copies):
    case = Case(positions=512, words=50_000, width=8)
    least, most = (number * case.logits_bytes for number in copies)
    assert least < resident_extra(benchmark_of.FORMS[PLAIN], case, threads=1) < most
    assert resident_extra(benchmark_of.FORMS[OURS], case, threads=1) < 3 * case.logits_bytes


@both
@pytest.mark.parametrize("trained", [True, False])
def test_no_gradient_of_the_head_lies_beside_the_one_that_is_left(benchmark_of, trained, monkeypatch):
    case = Case(positions=64, words=2000, width=256, trained=trained)
    chunks_of_four(monkeypatch, case)
    problem = Problem(case, CPU, torch.float32)
    extra = peak_bytes(lambda: problem.step(benchmark_of.ours), CPU) - problem.left
    assert extra < 0.15 * problem.head.weight.nbytes


def test_the_problem_has_one_matrix_for_both_sides():
    problem = Problem(SMALL, CPU, torch.float32)
    assert problem.head.weight.data_ptr() == problem.teacher_head.weight.data_ptr()
    assert not problem.teacher_head.weight.requires_grad
