"""How the fed-back states are obtained in training.

`sequential`   exact: the prefix, then one cached pass a thought column, the last one together with all that follows.
               S + 1 passes for S thoughts; costs S small passes whose weights are read again each time.
`jacobi`       fixed-point iteration: all thought columns at once, k times, over the prefix's cache, then the scored pass.
               Exact once k reaches the number of thoughts, whatever it starts from, since update i settles thought i (Parallel
               Continuous Chain-of-Thought, arXiv 2506.18582). k + 1 passes: the first update's is the prefix's own.
`single_pass`  jacobi with one update and no gradient through it, so that hundreds of mixed positions cost one extra forward. It
               drifts from sequential as m grows: log the gap, evaluate sequentially. Given states replace the update.

The prefix is shared, and so are the products that give the gradients of weights (`model.shared_products`); every method ends in
one pass over at least the last thought column and the rest, so the scored hidden states always come from inputs whose thoughts
are final. Where the prefix of single_pass is no longer than its span of thoughts, its two passes share nothing: a cache between
them, and attention behind a mask, cost more than the prefix's second forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor
from transformers import DynamicCache

from latentthought.errors import ConfigError, unknown
from latentthought.model.backbone import Backbone, States, join_columns
from latentthought.model.cache import ReservedCache, fork_cache
from latentthought.model.inputs import ThoughtInputs
from latentthought.model.sharding import sharded
from latentthought.model.shared_products import SharedProducts
from latentthought.model.spans import span
from latentthought.thoughts.layout import Feedback as FeedbackKind
from latentthought.thoughts.mixing import BlendRule, MixRatio, blend, columns
from latentthought.thoughts.scale import ScaleMatcher

FEEDBACK_KINDS = get_args(FeedbackKind)


def check_feedback(
    kind: str, given_states: Tensor | None, thought_mask: Tensor | None, ratio: MixRatio, width: int
) -> None:
    """Raise `ConfigError` for an unknown method, for states that it does not take, and for a ratio outside 0 to 1."""
    if kind not in FEEDBACK_KINDS:
        raise ConfigError(unknown("feedback", kind, FEEDBACK_KINDS))
    if given_states is not None and (kind != "single_pass" or thought_mask is None):
        raise ConfigError(
            f"thought_states go with feedback='single_pass' and a thought_mask, not with feedback={kind!r}"
        )
    if given_states is not None and thought_mask is not None:
        wanted = (*thought_mask.shape, width)
        if given_states.shape != wanted:
            raise ConfigError(f"thought_states: (B, T, D) = {wanted}, not {tuple(given_states.shape)}")
    if not isinstance(ratio, Tensor) and not 0 <= ratio <= 1:
        raise ConfigError(f"mix_ratio: a number from 0 to 1, not {ratio!r}")


def shares_nothing(prefix: int, thoughts: int) -> bool:
    """Whether two whole passes of single_pass cost less than to share a prefix of so many columns before a span of thoughts."""
    return prefix <= thoughts


@dataclass(frozen=True)
class Feedback:
    """What the passes gave: `states` of all columns (captured layers too), `fed_in` (B, stop - start, D) = h_{t-1} fed in at each
    column from start to stop before scale and blend, and on request `text_states` (B, T, D), the states of the pure-text
    pass, without gradient."""

    states: States
    fed_in: Tensor
    text_states: Tensor | None = None


class FeedbackPasses:
    """Runs a feedback method over a backbone.

    Args:
        backbone, scale, rule: the model's parts.
        jacobi_iterations: k, for jacobi; None runs as many as there are thought columns (exact).
        gradient_iterations: how many of the last jacobi updates carry gradient; None is all.
        backprop_thoughts: how many of the last sequential thoughts carry gradient into the state fed to them; None is all.
        capture: layers whose states are kept too, from the passes whose states are scored; see `model.capture`.
    """

    def __init__(
        self,
        backbone: Backbone,
        scale: ScaleMatcher,
        rule: BlendRule,
        jacobi_iterations: int | None = None,
        gradient_iterations: int | None = None,
        backprop_thoughts: int | None = None,
        capture: Sequence[int] = (),
    ):
        limits = {
            "jacobi_iterations": (jacobi_iterations, 1),
            "gradient_iterations": (gradient_iterations, 0),
            "backprop_thoughts": (backprop_thoughts, 0),
        }
        for name, (value, least) in limits.items():
            if value is not None and value < least:
                raise ConfigError(f"{name}: must be {least} or more, got {value}")
        self.backbone, self.scale, self.rule = backbone, scale, rule
        self.jacobi_iterations = jacobi_iterations
        self.gradient_iterations = gradient_iterations
        self.backprop_thoughts = backprop_thoughts
        self.capture = tuple(capture)
        self._products = SharedProducts(backbone.base, backbone.checkpointing)

    def run(
        self,
        kind: FeedbackKind,
        inputs: ThoughtInputs,
        given_states: Tensor | None = None,
        text_states: bool = False,
    ) -> Feedback:
        """Fill the thoughts by method `kind`; `given_states` (B, T, D) are the h of each position, for single_pass."""
        if kind == "single_pass" and given_states is not None:
            return self._given(inputs, given_states, text_states)
        # ranks that wait for each other all have to take the same way, however long their rows
        if kind == "single_pass" and (sharded() or shares_nothing(inputs.start, inputs.stop - inputs.start)):
            return self._two_passes(inputs, text_states)
        if kind == "sequential":
            cache = self._reserved(inputs)
            prefix = self._prefix(inputs, cache)
            text = self._text_states(inputs, prefix, cache) if text_states else None
            return self._sequential(inputs, prefix, cache, text)
        columns = inputs.stop - inputs.start
        iterations = 1 if kind == "single_pass" else self.jacobi_iterations or columns
        gradient = 0 if kind == "single_pass" else self.gradient_iterations
        detached = 0 if gradient is None else max(0, iterations - gradient)
        if detached:
            # updates with gradient fork the cache, so its columns have to carry theirs
            cache = DynamicCache() if detached < iterations else self._reserved(inputs)
            prefix, first = self._prefix(inputs, cache), None
        else:
            cache = DynamicCache()
            prefix, first = self._prefix_and_text(inputs, cache)
        text = self._text_states(inputs, prefix, cache) if text_states else None
        return self._jacobi(inputs, prefix, first, cache, text, iterations, detached)

    def mix(self, inputs: ThoughtInputs, states_BSD: Tensor, start: int, stop: int) -> Tensor:
        """x_t of columns [start, stop) from the states h_{t-1} (B, stop - start, D); text where a row does not think."""
        text_BSD = inputs.embeddings[:, start:stop]
        mixed_BSD = blend(text_BSD, self.scale(states_BSD), columns(inputs.ratio, start, stop), self.rule)
        return torch.where(inputs.thought_mask[:, start:stop, None], mixed_BSD, text_BSD)

    def _pass(
        self,
        inputs: ThoughtInputs,
        embeddings: Tensor,
        start: int,
        stop: int,
        cache: DynamicCache | None,
        capture: Sequence[int] = (),
    ) -> States:
        mask, positions = inputs.attention_mask[:, :stop], inputs.position_ids[:, start:stop]
        with span(inputs.part(start, stop)):
            return self.backbone.run(
                embeddings, mask, positions, cache, capture=capture, products=self._products
            )

    def _reserved(self, inputs: ThoughtInputs) -> ReservedCache:
        return ReservedCache(inputs.embeddings.shape[1])

    def _prefix(self, inputs: ThoughtInputs, cache: DynamicCache) -> States:
        return self._pass(inputs, inputs.embeddings[:, : inputs.start], 0, inputs.start, cache, self.capture)

    def _prefix_and_text(self, inputs: ThoughtInputs, cache: DynamicCache) -> tuple[States, Tensor]:
        """The prefix, and `fed` of the thought columns as text but the last, (B, stop - start - 1, D), in one pass; the cache is
        left with the prefix."""
        start, stop = inputs.start, inputs.stop - 1
        both = self._pass(inputs, inputs.embeddings[:, :stop], 0, stop, cache, self.capture)
        if stop > start:  # releases of transformers differ in what cropping nothing means
            cache.crop(start - stop)
        captured = {layer: states[:, :start] for layer, states in both.captured.items()}
        return States(both.final[:, :start], both.fed[:, :start], captured), both.fed[:, start:]

    def _sequential(
        self, inputs: ThoughtInputs, prefix: States, cache: DynamicCache, text: Tensor | None
    ) -> Feedback:
        passes, fed_in = [prefix], []
        total, ends = inputs.embeddings.shape[1], (*inputs.thought_columns[1:], inputs.embeddings.shape[1])
        first_with_gradient = 0 if self.backprop_thoughts is None else len(ends) - self.backprop_thoughts
        for index, (start, stop) in enumerate(zip(inputs.thought_columns, ends, strict=True)):
            previous = passes[-1].fed[:, -1:]
            if index < first_with_gradient:
                previous = previous.detach()
            thought = self.mix(inputs, previous, start, start + 1)
            embeddings = (
                torch.cat([thought, inputs.embeddings[:, start + 1 : stop]], dim=1)
                if stop > start + 1
                else thought
            )
            passes.append(self._pass(inputs, embeddings, start, stop, cache, self.capture))
            fed_in.append(previous)
            if (
                stop < total and stop - start > 1
            ):  # text columns between two thoughts: keep fed_in one entry a column
                fed_in.append(passes[-1].fed[:, : stop - start - 1])
        return Feedback(join_columns(passes), torch.cat(fed_in, dim=1), text)

    def _jacobi(
        self,
        inputs: ThoughtInputs,
        prefix: States,
        first: Tensor | None,
        cache: DynamicCache,
        text: Tensor | None,
        iterations: int,
        detached: int,
    ) -> Feedback:
        """first: `fed` of the text at the thought columns but the last, where the prefix's pass took them along. detached: how
        many of the first updates carry no gradient."""
        start, stop = inputs.start, inputs.stop
        x_BSD = inputs.embeddings[:, start:stop]
        fed_in = x_BSD  # replaced by the first update
        for update in range(iterations):
            with torch.set_grad_enabled(torch.is_grad_enabled() and update >= detached):
                # the text pass that was asked for is this first update, when nothing is to flow through it
                if update == 0 and text is not None and detached:
                    fed_in = text[:, start - 1 : stop - 1]
                elif update == 0 and first is not None:
                    fed_in = torch.cat([prefix.fed[:, -1:], first], dim=1)
                else:
                    branch = fork_cache(cache, detach=update < detached)
                    fed = [prefix.fed[:, -1:]]
                    if stop - start > 1:
                        fed.append(self._pass(inputs, x_BSD[:, :-1], start, stop - 1, branch).fed)
                    fed_in = torch.cat(fed, dim=1)
            # blending stays outside: a learnt scale (mlp) trains even where the states carry no gradient
            x_BSD = self.mix(inputs, fed_in, start, stop)
        total = inputs.embeddings.shape[1]
        embeddings = torch.cat([x_BSD, inputs.embeddings[:, stop:]], dim=1)
        scored = self._pass(inputs, embeddings, start, total, cache, self.capture)
        return Feedback(join_columns([prefix, scored]), fed_in, text)

    def _given(self, inputs: ThoughtInputs, given_states: Tensor, text_states: bool) -> Feedback:
        text = self._text(inputs, inputs.embeddings.shape[1]) if text_states else None
        return self._scored(inputs, given_states[:, inputs.start - 1 : inputs.stop - 1], text)

    def _two_passes(self, inputs: ThoughtInputs, text_states: bool) -> Feedback:
        """single_pass without a cache."""
        text = self._text(inputs, inputs.embeddings.shape[1] if text_states else inputs.stop - 1)
        return self._scored(
            inputs, text[:, inputs.start - 1 : inputs.stop - 1], text if text_states else None
        )

    def _scored(self, inputs: ThoughtInputs, fed_in: Tensor, text: Tensor | None) -> Feedback:
        """One pass over all columns, whose thoughts come from `fed_in` (B, stop - start, D)."""
        start, stop, total = inputs.start, inputs.stop, inputs.embeddings.shape[1]
        fed_in = fed_in.to(inputs.embeddings.dtype)
        mixed = self.mix(inputs, fed_in, start, stop)
        embeddings = torch.cat([inputs.embeddings[:, :start], mixed, inputs.embeddings[:, stop:]], dim=1)
        return Feedback(self._pass(inputs, embeddings, 0, total, None, self.capture), fed_in, text)

    @torch.no_grad()
    def _text(self, inputs: ThoughtInputs, stop: int) -> Tensor:
        """`fed` of the first `stop` columns as text, (B, stop, D)."""
        with span("thoughts"):  # over other columns too, but for the thoughts' sake
            return self._pass(inputs, inputs.embeddings[:, :stop], 0, stop, None).fed

    @torch.no_grad()
    def _text_states(self, inputs: ThoughtInputs, prefix: States, cache: DynamicCache) -> Tensor:
        start, total = inputs.start, inputs.embeddings.shape[1]
        with span("thoughts"):  # over the rest too, but for the thoughts' sake
            rest = self._pass(
                inputs, inputs.embeddings[:, start:], start, total, fork_cache(cache, detach=True)
            )
        return torch.cat([prefix.fed.detach(), rest.fed], dim=1)
