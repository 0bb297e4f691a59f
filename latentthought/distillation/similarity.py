"""How alike each layer of a student is to each layer of its teacher, at the positions where both have read the same.

cosine             the mean cosine of the two states, for models of one width.
projected cosine   the same after the projectors that were trained with the student; only of the layers that have one.
cka                linear centred kernel alignment (arXiv 1905.00414), for models of two widths without projectors: whether the
                   same positions lie near each other in both, whatever the directions are called.

CKA is taken as the cosine of the two Gram matrices, centred so that its estimate is unbiased (Szekely and Rizzo 2014; the HSIC_1
of Song et al. 2012). The plain estimate is of no use here: with fewer positions than dimensions any two models come out
alike. So a value may lie a little below 0.
Layers are numbered as in `objective.layers`: 0 the embeddings, b the output of block b, and the last one after the final norm,
which together are transformers' `hidden_states`.
Cost: one forward of either model on the rows. A cosine of raw states is high wherever a few dimensions are far larger than the
rest: compare the cells of one picture with each other, not those of two models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentthought.data.example import Example
from latentthought.distillation.reader import Reader
from latentthought.distillation.teacher import Teacher
from latentthought.errors import DataError
from latentthought.objective.alignment import Reading, Rule, align, sites
from latentthought.objective.layers import AFTER_NORM
from latentthought.objective.places import Places
from latentthought.objective.projectors import Projectors

Measure = Literal["cosine", "projected cosine", "cka"]
RULES: tuple[Rule, ...] = ("shared", "reasoning", "step_ends", "answer")
"""What is tried in this order where nobody says which positions are compared."""

# positions whose Gram matrices are held for every layer of both models
_MOST = 1024
_FEWEST = 4


@dataclass(frozen=True)
class Similarity:
    """values_ST: one for each of student_layers and teacher_layers; NaN where a layer is the same at every position.

    rule: which positions. positions, rows: how many. compared: pairs of layers that the student's objective looks at.
    """

    values_ST: Tensor
    student_layers: tuple[int, ...]
    teacher_layers: tuple[int, ...]
    measure: Measure
    rule: Rule
    positions: int
    rows: int
    compared: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Side:
    """One of the two models (frozen, whatever its part), and how it reads rows."""

    model: Teacher
    reader: Reader

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers, the embeddings with them."""
        return tuple(range(self.model.blocks + 1))

    def states(
        self, readings: Sequence[Reading], places: Places, before: Sequence[int] | None = None
    ) -> Tensor:
        """(N, L, D) float32 on the CPU: the states of all layers at places of a batch."""
        batch = self.reader.collate([reading.row for reading in readings])
        keys = [AFTER_NORM if layer == self.model.blocks else layer for layer in self.layers]
        captured = self.model.states(batch, keys)
        return torch.stack([places.gather(captured[key]) for key in keys], 1).float().cpu()


def layer_similarity(
    student: Side,
    teacher: Side,
    examples: Iterable[Example],
    rule: Rule | None = None,
    projectors: Projectors | None = None,
    compared: Sequence[tuple[int, int]] = (),
    batch_size: int = 8,
) -> Similarity:
    """Compare all layers of two models on rows.

    rule: which positions; None takes the first of `RULES` that both models have any of. projectors, compared: of the student's
    training, with layers as capture keys. Raises `DataError` where the two have no position in common, or too few for CKA.
    """
    pairs = _readings(student.reader, teacher.reader, list(examples))
    rule, aligned = _aligned(pairs, rule)
    measure: Measure = (
        "projected cosine"
        if projectors is not None
        else "cosine"
        if student.model.width == teacher.model.width
        else "cka"
    )
    total, positions, rows = _Total(measure, projectors, student.model.blocks), 0, 0
    for start in range(0, len(aligned), batch_size):
        part = aligned[start : start + batch_size]
        mine, theirs = ([reading[side] for reading in part] for side in (0, 1))
        states = []
        for side, readings, column in ((student, mine, 2), (teacher, theirs, 3)):
            before = side.reader.collate([reading.row for reading in readings])["before"]
            places = Places.in_batch([one[column] for one in part], before)
            states.append(side.states(readings, places))
        total.add(*states)
        positions, rows = positions + len(states[0]), rows + len(part)
        if total.full:
            break
    values, layers = total.values()
    return Similarity(
        values,
        layers,
        teacher.layers,
        measure,
        rule,
        min(positions, _MOST) if measure == "cka" else positions,
        rows,
        tuple((_layer(s, student.model.blocks), _layer(t, teacher.model.blocks)) for s, t in compared),
    )


def cosine_sums(mine_NSD: Tensor, theirs_NTD: Tensor) -> Tensor:
    """(S, T): cosines of each pair of layers, added up over positions."""
    unit_NSD, unit_NTD = (torch.nn.functional.normalize(one, dim=-1) for one in (mine_NSD, theirs_NTD))
    return torch.einsum("nsd,ntd->st", unit_NSD, unit_NTD)


def linear_cka(mine_NSD: Tensor, theirs_NTE: Tensor) -> Tensor:
    """(S, T): debiased linear CKA of each pair of layers. NaN for a layer that does not vary."""
    mine, theirs = _centred(mine_NSD), _centred(theirs_NTE)
    return mine @ theirs.T


def _centred(states_NLD: Tensor) -> Tensor:
    """(L, N * N): each layer's Gram matrix, U-centred, of norm 1."""
    n = len(states_NLD)
    rows = []
    for states_ND in states_NLD.double().unbind(1):
        # what all positions share is in no product of differences, and only costs digits
        states_ND = states_ND - states_ND.mean(0)
        gram = (states_ND @ states_ND.T).fill_diagonal_(0.0)
        sums = gram.sum(1)
        gram = gram - (sums[:, None] + sums[None]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
        gram = gram.fill_diagonal_(0.0).flatten()
        norm = gram.norm()
        varies = norm > 1e-9 * states_ND.square().sum().clamp_min(1e-30)
        rows.append(gram / norm if varies else torch.full_like(gram, torch.nan))
    return torch.stack(rows)


class _Total:
    """What is gathered over batches: sums of cosines, or the states themselves up to `_MOST` positions."""

    def __init__(self, measure: Measure, projectors: Projectors | None, blocks: int) -> None:
        self.measure, self.projectors, self.blocks = measure, projectors, blocks
        self._sum: Tensor | None = None
        self._count = 0
        self._kept: tuple[list[Tensor], list[Tensor]] = ([], [])

    @property
    def full(self) -> bool:
        return self.measure == "cka" and self._count >= _MOST

    def add(self, mine_NSD: Tensor, theirs_NTD: Tensor) -> None:
        self._count += len(mine_NSD)
        if self.measure == "cka":
            self._kept[0].append(mine_NSD)
            self._kept[1].append(theirs_NTD)
            return
        if self.projectors is not None:
            mine_NSD = self._projected(mine_NSD)
        part = cosine_sums(mine_NSD, theirs_NTD)
        self._sum = part if self._sum is None else self._sum + part

    def values(self) -> tuple[Tensor, tuple[int, ...]]:
        """The similarities, and the student's layers that they are of."""
        if self.measure == "cka":
            if self._count < _FEWEST:
                raise DataError(
                    f"CKA needs {_FEWEST} positions or more, and the rows have {self._count} in common: give more rows"
                )
            mine, theirs = (torch.cat(kept)[:_MOST] for kept in self._kept)
            return linear_cka(mine, theirs), tuple(range(self.blocks + 1))
        assert self._sum is not None
        layers = range(self.blocks + 1) if self.projectors is None else self._maps()
        return self._sum / self._count, tuple(layers)

    def _maps(self) -> dict[int, torch.nn.Module]:
        """Layer of the student -> its projector; of several that a layer has, the first."""
        assert self.projectors is not None
        if self.projectors.config.shared:
            return dict.fromkeys(range(self.blocks + 1), self.projectors.maps[0])
        found: dict[int, torch.nn.Module] = {}
        for (key, _), projector in zip(self.projectors.pairs, self.projectors.maps, strict=True):
            found.setdefault(_layer(key, self.blocks), projector)
        return dict(sorted(found.items()))

    @torch.no_grad()
    def _projected(self, states_NSD: Tensor) -> Tensor:
        weight = next(iter(self.projectors.parameters())) if self.projectors is not None else states_NSD
        states_NSD = states_NSD.to(weight.device, weight.dtype)
        return (
            torch.stack([map(states_NSD[:, layer]) for layer, map in self._maps().items()], 1).float().cpu()
        )


def _readings(mine: Reader, theirs: Reader, examples: list[Example]) -> list[tuple[Reading, Reading]]:
    """The rows that both can read."""
    first, second = mine.read(examples), theirs.read(examples)
    places = dict(zip(second.kept, second.readings, strict=True))
    return [
        (reading, places[place])
        for place, reading in zip(first.kept, first.readings, strict=True)
        if place in places
    ]


def _aligned(pairs: Sequence[tuple[Reading, Reading]], rule: Rule | None) -> tuple[Rule, list[tuple]]:
    """The rule, and each pair of readings with the sites of either that it compares; those with none are left out."""
    for tried in RULES if rule is None else (rule,):
        found = []
        for mine, theirs in pairs:
            a, b = sites(mine, tried), sites(theirs, tried)
            chosen, partners = align(a.keys_N, b.keys_N)
            if len(chosen):
                found.append((mine, theirs, a.at(chosen), b.at(partners)))
        if found:
            return tried, found
    named = rule or ", ".join(RULES)
    raise DataError(f"student and teacher have no position in common in any of {len(pairs)} rows, by {named}")


def _layer(key: int, blocks: int) -> int:
    """A capture key as the number of a layer."""
    return blocks if key == AFTER_NORM else key
