"""What a forward returns, and the report on its thoughts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from latentthought.model.feedback import Feedback
from latentthought.model.inputs import ThoughtInputs
from latentthought.thoughts.scale import root_mean_square


@dataclass
class LatentThoughtOutput(ModelOutput):
    """Output of a forward; what was not asked for is None.

    loss: 0-d. logits: (B, T, V), absent when labels are given unless `return_logits`. past_key_values: the cache.
    thoughts: (B, S, D), the states fed in before scale and blend, in order, zero-padded on the right. thought_counts: (B,).
    hidden: (B, T, D), the state of every position that the next one may be fed. scaled: `scale(hidden)`.
    embeddings: (B, T, D), token embeddings. text_states: (B, T, D), `hidden` of the pure-text pass, without gradient.
    predictions: (B, T), the argmax token for each labelled position, -100 elsewhere.
    monitor: 0-d tensors, means over the thoughts: `rms_ratio` (thought RMS over embedding RMS), `cosine` (of fed-in state and
        token embedding), `gap` (how far, relative to their own size, the states fed in are from those that the scored pass then
        gave at the same places: 0 for sequential feedback, the drift of single_pass and of too few Jacobi iterations).
    captured: the states (B, T, D) of the layers asked for, by the keys of `model.capture`; always among them -1 and the layer
        whose states are fed back.
    value: what `score` returned. reading: the output of the other reading, with the same layers captured.
        With a `score`, `captured` and `reading` exist for it alone and are gone when the forward returns.
    hidden_states, attentions: of the base, for plain text.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    thoughts: Tensor | None = None
    thought_counts: Tensor | None = None
    hidden: Tensor | None = None
    scaled: Tensor | None = None
    embeddings: Tensor | None = None
    text_states: Tensor | None = None
    predictions: Tensor | None = None
    monitor: dict[str, Tensor] | None = None
    captured: dict[int, Tensor] | None = None
    value: Any = None
    reading: LatentThoughtOutput | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None

    def report_thoughts(
        self, inputs: ThoughtInputs, feedback: Feedback, embedding_rms: Tensor, exact: bool
    ) -> None:
        """Fill in `thoughts`, `thought_counts` and `monitor`; exact: as many slots as the row with the most thoughts needs,
        which waits for the device, instead of one a thought column."""
        mask_BS = inputs.thought_mask[:, inputs.start : inputs.stop]
        self.thought_counts = mask_BS.sum(1)
        # a stable sort of "not a thought" moves each row's thoughts to the left and keeps their order
        order_BS = (~mask_BS).long().argsort(dim=1, stable=True)
        thoughts_BSD = feedback.fed_in.gather(1, order_BS[..., None].expand(feedback.fed_in.shape))
        thoughts_BSD = thoughts_BSD * mask_BS.gather(1, order_BS)[..., None]
        self.thoughts = thoughts_BSD[:, : int(self.thought_counts.max())] if exact else thoughts_BSD
        with torch.no_grad():
            count = mask_BS.sum().clamp_min(1)
            text_BSD = inputs.embeddings[:, inputs.start : inputs.stop].float()
            rms_BS = root_mean_square(feedback.fed_in).squeeze(-1)
            cosine_BS = torch.cosine_similarity(feedback.fed_in.float(), text_BSD, dim=-1)
            scored_BSD = feedback.states.fed[:, inputs.start - 1 : inputs.stop - 1]
            gap_BS = root_mean_square(scored_BSD - feedback.fed_in).squeeze(-1) / rms_BS
            means = {"rms_ratio": rms_BS / embedding_rms, "cosine": cosine_BS, "gap": gap_BS}
            self.monitor = {name: (value * mask_BS).sum() / count for name, value in means.items()}
