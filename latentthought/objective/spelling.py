"""Spelling: an auxiliary decoder must write step k in words from the thoughts of step k (SIM-CoT, arXiv 2509.20317).

    {term: spell, weight: 1.0}                                           the decoder starts as a copy of the student's base
    {term: spell, weight: 1.0, decoder: {layers: 1, width: 64, heads: 4}}      or small, from nothing

Its input is [scale(h) of the thoughts of one step, embeddings of the step's tokens], and its loss the cross-entropy of
those tokens and an end token. So each thought has to hold its own step, which keeps the thoughts of a row from becoming alike.
h is the state that is fed to a thought, taken from the pass that is scored: with sequential feedback that is the state fed in,
and with the others it still carries gradient. Where a stage has dropped the steps that no thought stands for, the last
thoughts spell all of those too, as published; thoughts that only fill a row up to its stage spell nothing (published:
they spell the answer).

The decoder is a companion of the student (`model.companions`): it trains with it, and is nothing to a saved or an exported model.
Cost: one forward and backward of the decoder over the tokens of the latent steps, each step a row of its own; with
`decoder: copy` also the memory of a second model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from latentthought.errors import ConfigError
from latentthought.model.scratch import ScratchConfig
from latentthought.objective.weights import NAME, Weighted
from latentthought.thoughts.layout import IGNORED, THOUGHT_BIT, Region

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from latentthought.objective.alignment import Reading


class SpellingTerm(Weighted):
    """A term of the objective; see this module.

    decoder: `copy`, the student's base as it is when training begins, or the sizes of a model from nothing.
    learning_rate: of the decoder; None is the run's.
    """

    term: Literal["spell"]
    decoder: Literal["copy"] | ScratchConfig = "copy"
    learning_rate: float | None = Field(None, gt=0.0)
    name: str = Field("spell", pattern=NAME)


class Speller(nn.Module):
    """The auxiliary decoder, and the projection into its width where that is not the student's.

    Args:
        decoder: a causal language model over the student's vocabulary. student_width: D. origin: `copy` or `scratch`.
    """

    def __init__(self, decoder: PreTrainedModel, student_width: int, origin: str = "copy") -> None:
        from latentthought.model.backbone import Backbone

        super().__init__()
        self.decoder, self.origin, self.student_width = decoder, origin, student_width
        self.backbone = Backbone(decoder)
        width = self.backbone.width
        self.bridge = nn.Identity() if width == student_width else nn.Linear(student_width, width)

    @classmethod
    def build(cls, term: SpellingTerm, model: Any, tokenizer: PreTrainedTokenizerBase) -> Speller:
        """The decoder of a term for a student, with or without adapters; sizes from nothing are drawn from torch's generator.

        Raises ConfigError for a copy of a base whose weights are quantised, which cannot train.
        """
        width = model.backbone.width
        if isinstance(term.decoder, ScratchConfig):
            return cls(term.decoder.build(tokenizer), width, "scratch")
        if any(not p.is_floating_point() or hasattr(p, "quant_state") for p in model.base.parameters()):
            raise ConfigError(
                f"objective.{term.name}.decoder: copy, and the base's weights are quantised, which do not train; "
                "give the sizes of a decoder instead"
            )
        return cls(_without_adapters(copy.deepcopy(model.base)).requires_grad_(True), width)

    @property
    def description(self) -> dict[str, Any]:
        """What fixes its shape; see `model.companions`."""
        config = self.decoder.config.get_text_config()
        return {
            "kind": "speller",
            "decoder": self.origin,
            "architecture": config.model_type,
            "layers": config.num_hidden_layers,
            "width": self.backbone.width,
            "student_width": self.student_width,
            "vocabulary": self.backbone.vocabulary,
        }

    def forward(self, thoughts_MPD: Tensor, labels_MS: Tensor) -> Tensor:
        """Summed cross-entropy, 0-d float32, of the labels (IGNORED at padding) of M steps after P scaled thoughts each."""
        from latentthought.model.scoring import next_token_loss

        spelled_MS = labels_MS[:, :-1].clamp_min(
            0
        )  # what stands at padding is seen by nothing: attention is causal
        words_MSD = self.backbone.embed(spelled_MS)
        thoughts_MPD = self.bridge(thoughts_MPD.to(words_MSD.dtype))
        hidden_MTD = self.backbone.run(torch.cat([thoughts_MPD, words_MSD], dim=1), None, None).final
        before_MP = labels_MS.new_full(thoughts_MPD.shape[:2], IGNORED)
        # the label of a column is predicted one column before it, so there is one label more than there are columns
        labels_MT = torch.cat([before_MP, labels_MS], dim=1)
        return next_token_loss(self.backbone.head, hidden_MTD, labels_MT, self.backbone.vocabulary, 1).loss


@dataclass(frozen=True)
class SpellingBatch:
    """The latent steps of a batch, M of them. rows_M, columns_MP: where the states are that its P thoughts were fed.
    labels_MS: tokens of the step and the end token, IGNORED at padding. count: 0-d, how many labels there are.

    A batch without latent steps has one that stands for none, with a count of 0: the decoder still runs, on every rank alike.
    """

    rows_M: Tensor
    columns_MP: Tensor
    labels_MS: Tensor
    count: Tensor

    def to(self, device: Any, **options: Any) -> SpellingBatch:
        """The same on a device."""
        parts = (self.rows_M, self.columns_MP, self.labels_MS, self.count)
        return SpellingBatch(*(part.to(device, **options) for part in parts))


def collate_spelling(
    readings: Sequence[Reading], before: Sequence[int], end_id: int | None = None
) -> SpellingBatch:
    """What a batch of rows has to spell.

    Args:
        before: columns of padding that collation put before each row. end_id: token that ends a spelled step, None for none.
    """
    rows, columns, labels = [], [], []
    end = [] if end_id is None else [end_id]
    for place, (reading, shift) in enumerate(zip(readings, before, strict=True)):
        for first, tokens in latent_steps(reading):
            rows.append(place)
            columns.append([first + shift - 1 + thought for thought in range(reading.row.per_step)])
            labels.append([*tokens, *end])
    count = sum(map(len, labels))
    if not labels:
        per_step = readings[0].row.per_step if readings else 1
        rows, columns, labels = [0], [[0] * per_step], [[0]]
    width = max(map(len, labels))
    return SpellingBatch(
        torch.tensor(rows),
        torch.tensor(columns),
        torch.tensor([row + [IGNORED] * (width - len(row)) for row in labels]),
        torch.tensor(count),
    )


def latent_steps(reading: Reading) -> list[tuple[int, list[int]]]:
    """(column of its first thought in the row, its token ids) of every step that thoughts stand for."""
    row, steps = reading.row, reading.encoded.steps
    start, stop = row.run(Region.THOUGHT)
    if start == stop or not row.flags[start] & THOUGHT_BIT:  # pause tokens are fed nothing
        return []
    spoken = min((stop - start) // row.per_step, row.first_step)
    found = [(start + k * row.per_step, list(steps[k])) for k in range(spoken)]
    if found:  # steps that are neither in words nor have thoughts of their own
        found[-1][1].extend(token for step in steps[spoken : row.first_step] for token in step)
    return [(first, tokens) for first, tokens in found if tokens]


def spelling_loss(model: Any, output: Any, batch: SpellingBatch, name: str) -> Tensor:
    """Summed cross-entropy of a batch's latent steps, 0-d float32; `model.companions[name]` is the `Speller`."""
    states_BTD = output.captured[model.backbone.layer]
    thoughts_MPD = model.scale(states_BTD[batch.rows_M[:, None], batch.columns_MP])
    # where there is nothing to spell the pass counts for nothing, but its parameters are in the graph
    return model.companions[name](thoughts_MPD, batch.labels_MS) * (batch.count > 0)


def _without_adapters(base: PreTrainedModel) -> PreTrainedModel:
    """`base` with the modules back in place that peft has wrapped, in their state under the adapters."""
    done: list[str] = []
    for name, module in list(base.named_modules()):
        inner = getattr(module, "base_layer", None) or getattr(module, "original_module", None)
        if isinstance(inner, nn.Module) and not any(name.startswith(f"{outer}.") for outer in done):
            base.set_submodule(name, inner)
            done.append(name)
    return base
