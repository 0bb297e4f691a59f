"""The objective: a weighted sum of terms, each with a mask, a count and a report of its own.

    L = sum_i  weight_i * (1 / N_i) * sum over valid positions of term i

`N_i` is the number of valid positions of the term in the whole optimizer step, over micro-batches and ranks, so that eight
micro-batches of one row and one of eight rows give the same gradient. Each micro-batch therefore asks first
(`Objective.counts`), the trainer adds the counts up, and the term divides by the total (`Objective.__call__`).

The terms run inside the wrapped model's forward (`forward(score=...)`): engines that gather or reduce parameters by hooks
then see the head, the projectors and the auxiliary decoder in use, and train them. Targets are detached.
Rejected: a mean of micro-batch means (wrong as soon as rows differ in length), and losses computed after the forward (head
and projectors would silently not train under DDP and ZeRO).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentthought.errors import ConfigError
from latentthought.model.spans import span
from latentthought.objective.balance import balance_factor
from latentthought.objective.comparison import Comparison, Depths, TeacherOutput
from latentthought.objective.divergence import cached_divergence, kl_divergence
from latentthought.objective.layers import AFTER_NORM
from latentthought.objective.losses import Distances, distances
from latentthought.objective.spelling import SpellingTerm, spelling_loss
from latentthought.objective.terms import (
    DEFAULT_TERMS,
    CrossEntropyTerm,
    DivergenceTerm,
    HiddenTerm,
    Term,
    as_term,
    asks_teacher,
    check_names,
)
from latentthought.thoughts.layout import IGNORED, reasoning_mask


@dataclass(frozen=True, slots=True)
class ObjectiveValue:
    """The loss of one micro-batch. total: 0-d, weighted. parts: name -> raw value, detached, for the log; weighted: name -> the
    share of the total, with its graph. All of them are shares of the step's mean. counts: name of each part -> positions of the
    whole step that it is a mean over."""

    total: Tensor
    parts: dict[str, Tensor]
    weighted: dict[str, Tensor]
    counts: dict[str, Tensor]


class Objective:
    """Computes a list of terms from a model output and its batch.

    Args:
        terms: their settings. depths: needed once a term looks at a teacher.
    """

    def __init__(
        self, terms: Sequence[Term | Mapping[str, Any]] = DEFAULT_TERMS, depths: Depths | None = None
    ) -> None:
        self.terms = tuple(as_term(term) for term in terms)
        self.depths = depths
        try:
            check_names(self.terms)
        except ValueError as error:
            raise ConfigError(f"objective: {error}") from None
        asking = [term.name for term in self.terms if asks_teacher(term)]
        if asking and depths is None:
            raise ConfigError(
                f"objective: the term {asking[0]!r} compares with a teacher, and nothing is known of one: give `depths`, or let "
                "distillation.guidance.guide make objective and teaching together"
            )
        self.layer_pairs = {
            term.name: term.layers.resolve(
                depths.student, depths.teacher, depths.kept, where=f"objective.{term.name}.layers"
            )
            for term in self.terms
            if depths is not None and isinstance(term, HiddenTerm) and term.target == "teacher"
        }
        for term in self.terms:
            weights = term.layer_weights if isinstance(term, HiddenTerm) else None
            if weights is not None and len(weights) != len(self.layer_pairs[term.name]):
                raise ConfigError(
                    f"objective.{term.name}.layer_weights: {len(weights)} weights for "
                    f"{len(self.layer_pairs[term.name])} pairs of layers"
                )

    @property
    def student_layers(self) -> tuple[int, ...]:
        """What `forward(capture=...)` has to keep of the student."""
        pairs = {student for pairs in self.layer_pairs.values() for student, _ in pairs}
        return tuple(sorted(pairs))

    @property
    def teacher_layers(self) -> tuple[int, ...]:
        """The same of the teacher."""
        layers = {teacher for pairs in self.layer_pairs.values() for _, teacher in pairs}
        if any(isinstance(term, DivergenceTerm) for term in self.terms):
            layers.add(AFTER_NORM)
        return tuple(sorted(layers))

    @property
    def forward_options(self) -> dict[str, bool]:
        """What the terms need of `model.forward` beyond its loss and captured layers."""
        own = [term for term in self.terms if isinstance(term, HiddenTerm) and term.target != "teacher"]
        options = {}
        if own:
            options["return_states"] = True
        if any(term.target == "text_states" for term in own):
            options["text_states"] = True
        return options

    @property
    def chain_term(self) -> int | None:
        """Place of the term that learns the whole chain of thought, if there is one."""
        places = [i for i, t in enumerate(self.terms) if isinstance(t, CrossEntropyTerm) and t.of == "chain"]
        return places[0] if places else None

    @property
    def learning_rates(self) -> dict[str, float]:
        """Learning rates of companions that have one of their own, by name."""
        rates = {
            term.name: term.learning_rate if isinstance(term, SpellingTerm) else term.projector.learning_rate
            for term in self.terms
            if isinstance(term, HiddenTerm | SpellingTerm)
        }
        return {name: rate for name, rate in rates.items() if rate is not None}

    def counts(self, batch: Mapping[str, Any]) -> Tensor:
        """Valid positions of each term in a micro-batch, and last those of the labels: (terms + 1,) int64."""
        labels = _label_count(batch)
        return torch.stack([*(self._count(term, batch, labels) for term in self.terms), labels])

    def _count(self, term: Term, batch: Mapping[str, Any], labels: Tensor) -> Tensor:
        if isinstance(term, CrossEntropyTerm):
            return labels if term.of == "row" else _label_count(batch["chain"])
        if isinstance(term, SpellingTerm):
            return batch["spelling"][term.name].count.to(labels.device)
        if asks_teacher(term):
            # filled in on the device: a copy would wait for it
            return labels.new_full((), len(batch["comparisons"][term.name].student))
        return _known_reasoning(batch).sum()

    def __call__(
        self,
        model: Any,
        output: Any,
        batch: Mapping[str, Any],
        counts: Tensor,
        teacher: TeacherOutput | None = None,
        progress: tuple[float, float] = (1.0, 1.0),
    ) -> ObjectiveValue:
        """Terms of one micro-batch.

        model: the latent-thought model that made `output`, whose `.loss` is the summed cross-entropy divided by `counts[-1]`.
        counts: the step's totals over micro-batches and ranks, as `counts()` returns them. teacher: None where the batch
        holds cached states, or the teacher is the model itself. progress: shares of the run and of the stage.
        """
        if teacher is None and output.reading is not None:
            # the model itself, reading the whole chain of thought: it teaches, and is not taught by this term
            states = {layer: state.detach() for layer, state in output.reading.captured.items()}
            teacher = TeacherOutput(states, model.backbone.head)
        total: Tensor | None = None
        parts: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        counted: dict[str, Tensor] = {}
        for index, term in enumerate(self.terms):
            count = counts[index].clamp_min(1)
            if isinstance(term, CrossEntropyTerm):
                value = output.loss if term.of == "row" else output.reading.loss
            elif isinstance(term, SpellingTerm):
                with span("spelling"):
                    value = spelling_loss(model, output, batch["spelling"][term.name], term.name) / count
            elif isinstance(term, DivergenceTerm):
                with span("comparison"):
                    value = self._divergence(term, model, output, batch, teacher) / count
            else:
                with span("comparison"):
                    found = self._distances(term, model, output, batch, teacher)
                value = found.total / count
                parts.update({f"{term.name}_{kind}": v / count for kind, v in found.kinds.items()})
            parts[term.name] = value.detach()
            counted.update(dict.fromkeys(parts.keys() - counted.keys(), counts[index]))
            share = term.weight_at(*progress) * value
            if isinstance(term, HiddenTerm) and term.balance is not None:
                share = share * balance_factor(model, term.name)
            weighted[term.name] = share
            total = share if total is None else total + share
        assert total is not None
        if not any(isinstance(term, CrossEntropyTerm) and term.of == "row" for term in self.terms):
            # a forward that has made a loss which nobody takes would leave DDP waiting for the weights behind it
            total = total + 0.0 * output.loss
        return ObjectiveValue(total, parts, weighted, counted)

    def _divergence(
        self,
        term: DivergenceTerm,
        model: Any,
        output: Any,
        batch: Mapping[str, Any],
        teacher: TeacherOutput | None,
    ) -> Tensor:
        pairs: Comparison = batch["comparisons"][term.name]
        student_ND = pairs.student.gather(output.captured[AFTER_NORM])
        vocabulary = (self.depths and self.depths.vocabulary) or model.backbone.vocabulary
        if pairs.words is not None:
            return cached_divergence(
                model.backbone.head,
                student_ND,
                pairs.words,
                temperature=term.temperature,
                vocabulary=vocabulary,
            )
        assert teacher is not None and pairs.teacher is not None
        teacher_ND = pairs.teacher.gather(teacher.captured[AFTER_NORM])
        return kl_divergence(
            model.backbone.head,
            student_ND,
            teacher.head,
            teacher_ND,
            temperature=term.temperature,
            direction=term.direction,
            skew=term.skew,
            vocabulary=vocabulary,
        )

    def _distances(
        self,
        term: HiddenTerm,
        model: Any,
        output: Any,
        batch: Mapping[str, Any],
        teacher: TeacherOutput | None,
    ) -> Distances:
        predicted, target = (
            self._teacher_pairs(term, model, output, batch["comparisons"][term.name], teacher)
            if term.target == "teacher"
            else _own_pairs(term, output, batch)
        )
        return distances(
            predicted,
            target,
            mse=term.mse,
            cosine=term.cosine,
            smooth_l1=term.smooth_l1,
            beta=term.beta,
            scale_match=term.scale_match,
            layer_weights_L=term.layer_weights,
        )

    def _teacher_pairs(
        self, term: HiddenTerm, model: Any, output: Any, pairs: Comparison, teacher: TeacherOutput | None
    ) -> tuple[Tensor, Tensor]:
        layers = self.layer_pairs[term.name]
        student_NLD = torch.stack([pairs.student.gather(output.captured[s]) for s, _ in layers], 1)
        if term.name in model.companions:
            student_NLD = model.companions[term.name](student_NLD)
        if pairs.states is not None:
            return student_NLD, pairs.states
        assert teacher is not None and pairs.teacher is not None
        places = pairs.teacher
        return student_NLD, torch.stack([places.gather(teacher.captured[t]) for _, t in layers], 1)


def _own_pairs(term: HiddenTerm, output: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(N, 1, D) twice: states at the reasoning positions whose token is known, and what they are compared with."""
    rows_N, places_N = _known_reasoning(batch).nonzero(as_tuple=True)
    if term.target == "next_embedding":
        # rows have no holes, so the state before position t is the one at t-1
        predicted, target = output.scaled[rows_N, places_N - 1], output.embeddings[rows_N, places_N]
    else:
        predicted, target = output.hidden[rows_N, places_N], output.text_states[rows_N, places_N]
    return predicted[:, None], target[:, None]


def _label_count(batch: Mapping[str, Any]) -> Tensor:
    # the label of the first column has no position before it that could predict it
    return (batch["labels"][:, 1:] != IGNORED).sum()


def _known_reasoning(batch: Mapping[str, Any]) -> Tensor:
    """Reasoning positions whose token is known: (B, T) bool, false in the first column."""
    mask_BT = reasoning_mask(batch["regions"]) & (batch["labels"] != IGNORED)
    mask_BT[:, 0] = False
    return mask_BT
