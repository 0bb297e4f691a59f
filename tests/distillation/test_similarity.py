"""Layer-by-layer similarity: cosines against transformers' own hidden states, CKA against its definition."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch

from latentthought.data.encoding import FormatConfig
from latentthought.distillation import similarity
from latentthought.distillation.reader import Reader, whole_text
from latentthought.distillation.similarity import Side, layer_similarity, linear_cka
from latentthought.distillation.teacher import Teacher
from latentthought.errors import DataError
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.objective.alignment import align, sites
from latentthought.objective.projectors import ProjectorConfig, Projectors
from tests.distillation.taught import FORMAT, LATENT, examples, tokenizer
from tests.families import tiny_base

ROWS = examples(9)


def side(layers: int, width: int = 32, seed: int = 0, kind: str = "words", thinks: bool = False) -> Side:
    words = tokenizer(kind)
    base = tiny_base("llama", seed=seed, num_hidden_layers=layers, hidden_size=width, vocab_size=len(words))
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(), tokenizer=words)
    curriculum = LATENT if thinks else whole_text(LATENT)
    return Side(Teacher(model, words), Reader(words, FORMAT, curriculum, model.thought.tokens))


@torch.no_grad()
def own_states(one: Side, reading: Any) -> torch.Tensor:
    """(T, L + 1, D) of a row of words alone, by transformers."""
    ids = torch.tensor([list(reading.row.ids)])
    return torch.stack(one.model.model.base(ids, output_hidden_states=True).hidden_states, 2)[0]


@pytest.mark.parametrize("rule", ["shared", "reasoning", "step_ends", "answer"])
def test_cosines_are_those_of_the_hidden_states(rule: Any) -> None:
    student, teacher = side(2), side(3, seed=1, kind="bytes")
    found = layer_similarity(student, teacher, ROWS, rule, batch_size=4)
    sums, count = torch.zeros(3, 4), 0
    for mine, theirs in zip(
        student.reader.read(ROWS).readings, teacher.reader.read(ROWS).readings, strict=True
    ):
        a, b = sites(mine, rule), sites(theirs, rule)
        chosen, partners = align(a.keys_N, b.keys_N)
        states_a, states_b = own_states(student, mine), own_states(teacher, theirs)
        for x, y in zip(a.starts_N[chosen], b.starts_N[partners], strict=True):
            for s in range(3):
                for t in range(4):
                    u, v = states_a[x, s], states_b[y, t]
                    sums[s, t] += (u @ v) / (u.norm() * v.norm())
            count += 1
    assert (found.measure, found.rule, found.positions) == ("cosine", rule, count)
    assert (found.student_layers, found.teacher_layers) == ((0, 1, 2), (0, 1, 2, 3))
    torch.testing.assert_close(found.values_ST, sums / count, atol=1e-5, rtol=0)


def test_a_model_is_like_itself() -> None:
    student = side(2)
    found = layer_similarity(student, student, ROWS)
    torch.testing.assert_close(found.values_ST.diagonal(), torch.ones(3))
    assert found.rule == "shared", "the first rule that finds anything"


def test_batches_change_nothing() -> None:
    student, teacher = side(2, thinks=True), side(2, seed=1)
    one = layer_similarity(student, teacher, ROWS, "step_ends", batch_size=1)
    all_ = layer_similarity(student, teacher, ROWS, "step_ends", batch_size=64)
    torch.testing.assert_close(one.values_ST, all_.values_ST, atol=1e-5, rtol=0)
    assert one.positions == all_.positions > 5


def test_projectors_of_their_layers() -> None:
    student, teacher = side(3), side(3, width=48, seed=1)
    torch.manual_seed(0)
    # layer 2 with 1, and the last one after its norm with the teacher's last
    projectors = Projectors(ProjectorConfig(kind="linear"), 32, 48, [(2, 1), (-1, -1)])
    found = layer_similarity(student, teacher, ROWS, "shared", projectors, [(2, 1), (-1, -1)])
    assert (found.measure, found.student_layers) == ("projected cosine", (2, 3))
    assert found.compared == ((2, 1), (3, 3))
    cosines = []
    for mine, theirs in zip(
        student.reader.read(ROWS).readings, teacher.reader.read(ROWS).readings, strict=True
    ):
        a, b = sites(mine, "shared"), sites(theirs, "shared")
        chosen, partners = align(a.keys_N, b.keys_N)
        projected = projectors.maps[1](own_states(student, mine)[a.starts_N[chosen], 3])
        cosines.append(
            torch.cosine_similarity(projected, own_states(teacher, theirs)[b.starts_N[partners], 2], -1)
        )
    torch.testing.assert_close(found.values_ST[1, 2], torch.cat(cosines).mean(), atol=1e-5, rtol=0)
    shared = Projectors(ProjectorConfig(kind="linear", shared=True), 32, 48, [(2, 1)])
    assert layer_similarity(student, teacher, ROWS, "shared", shared).student_layers == (0, 1, 2, 3)


def test_cka_is_its_definition() -> None:
    """The unbiased estimate is a mean over all quadruples of different positions (Song et al. 2012)."""
    torch.manual_seed(0)
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    y[:, :3] += x

    def hsic(a: torch.Tensor, b: torch.Tensor) -> float:
        terms = [a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]) for i, j, q, r in permutations(range(len(a)), 4)]
        return float(sum(terms)) / len(terms)

    grams = x @ x.T, y @ y.T
    wanted = hsic(*grams) / (hsic(grams[0], grams[0]) * hsic(grams[1], grams[1])) ** 0.5
    assert float(linear_cka(x[:, None], y[:, None])) == pytest.approx(wanted, abs=1e-9)


def test_cka_knows_turned_states_and_strangers() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 1, 40)
    turn = torch.linalg.qr(torch.randn(40, 40)).Q
    assert float(linear_cka(x, 3 * x @ turn + 7)) == pytest.approx(1.0, abs=1e-5)
    # wider than there are positions: the plain estimate calls any two alike
    wide, other = torch.randn(50, 1, 400), torch.randn(50, 1, 400)
    centred = [one[:, 0] - one[:, 0].mean(0) for one in (wide, other)]
    grams = [one @ one.T for one in centred]
    assert float((grams[0] * grams[1]).sum() / (grams[0].norm() * grams[1].norm())) > 0.8
    assert abs(float(linear_cka(wide, other))) < 0.1
    assert linear_cka(torch.ones(9, 1, 4), torch.randn(9, 1, 4)).isnan().all(), (
        "what does not vary is like nothing"
    )


def test_widths_without_projector_are_compared_by_cka(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = side(2), side(3, width=48, seed=1)
    found = layer_similarity(student, teacher, ROWS, "shared")
    assert found.measure == "cka"
    assert found.values_ST.shape == (3, 4)
    mine, theirs = [], []
    for a, b in zip(student.reader.read(ROWS).readings, teacher.reader.read(ROWS).readings, strict=True):
        x, y = sites(a, "shared"), sites(b, "shared")
        chosen, partners = align(x.keys_N, y.keys_N)
        mine.append(own_states(student, a)[x.starts_N[chosen]])
        theirs.append(own_states(teacher, b)[y.starts_N[partners]])
    torch.testing.assert_close(
        found.values_ST, linear_cka(torch.cat(mine), torch.cat(theirs)), atol=1e-4, rtol=0
    )
    monkeypatch.setattr(similarity, "_MOST", 20)
    fewer = layer_similarity(student, teacher, ROWS, "shared", batch_size=1)
    assert fewer.positions == 20 < found.positions
    assert fewer.rows < found.rows
    with pytest.raises(DataError, match="CKA needs 4 positions"):
        layer_similarity(student, teacher, ROWS[:1], "answer")


def test_nothing_in_common() -> None:
    student = side(2)
    words = tokenizer()
    other = Side(
        student.model, Reader(words, FormatConfig(), whole_text(LATENT), student.model.model.thought.tokens)
    )
    bare = [example for example in ROWS if not example.steps]
    with pytest.raises(DataError, match=r"no position in common .* by step_ends"):
        layer_similarity(student, other, bare, "step_ends")
