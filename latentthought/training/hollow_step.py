"""A training step without weights and without numbers: the real code, run on fake tensors, to count the memory that it takes.

Every tensor that a forward and backward pass makes is noted as it comes and goes, so what is counted is what the passes of
latent thoughts keep for the backward pass (each pass its own keys and values, the casts of autocast, what checkpointing
recomputes), and not an estimate of a formula for plain text. It takes a fraction of a second a block and pass.
Rejected: a formula a family (wrong as soon as a family, an attention or a pass changes), torch's `MemTracker` (the same idea,
with a snapshot a module: minutes for 3B parameters), and the meta device (it knows no autocast).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from latentthought.thoughts.layout import Feedback

if TYPE_CHECKING:
    from latentthought.model.modeling import LatentThoughtForCausalLM

# the gradients: `fresh`, made by this backward pass; `there`, of micro-batches before it; `elsewhere`, an engine takes each away
Gradients = Literal["fresh", "there", "elsewhere"]


@dataclass(frozen=True)
class StepShape:
    """The batch of a step as memory sees it.

    rows B, and the columns of each: `before` the first thought, `thoughts` S, `after` the last one. labels: of a row, how many
    positions are scored. feedback, iterations: as of `model.forward`; a step without thoughts is plain text. chain: positions
    of the whole chain of thought, where the model reads that too, and how many of them are scored.
    """

    rows: int
    before: int
    thoughts: int
    after: int
    labels: int
    feedback: Feedback = "sequential"
    iterations: int | None = None
    chain: int = 0
    chain_labels: int = 0

    @property
    def positions(self) -> int:
        """Columns of the batch, T."""
        return self.before + self.thoughts + self.after


def step_memory(
    model: nn.Module,
    shape: StepShape,
    *,
    bf16: bool = False,
    gradients: Gradients = "fresh",
    spread: bool = False,
) -> int:
    """Bytes that a forward and a backward pass take at their highest, beside the weights.

    Args:
        model: a latent-thought model or peft's wrapper of one, on the meta device (it is moved to fake memory).
        bf16: under autocast. gradients: whether those of the weights count; see `Gradients`. spread: whether
            parameters are, over ranks; then passes stay whole, and gradients of weights are made one by one.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    from latentthought.training.checkpointing import inside

    latent: LatentThoughtForCausalLM = inside(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with _given(trained, gradients):
            memory = LiveBytes([*model.parameters(), *model.buffers()])
            memory.add(tensor.grad for tensor in trained)
            with memory:
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = scored_passes(latent, shape, spread)
                loss.backward()
            return memory.peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, from the moment they are made until they are let go of.

    known: tensors whose storages do not count. now, peak: bytes.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.add(tree_iter(output))
        return output

    def add(self, tensors: Iterable[Any]) -> None:
        """Take in tensors (anything else is passed over)."""
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._sizes:
                continue
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


@contextmanager
def _given(trained: list[nn.Parameter], gradients: Gradients) -> Iterator[None]:
    for parameter in trained:
        if gradients == "there":
            parameter.grad = torch.empty_like(parameter)
        elif gradients == "elsewhere":
            parameter.register_post_accumulate_grad_hook(_let_go)
    yield


def _let_go(parameter: Tensor) -> None:
    parameter.grad = None


def scored_passes(model: LatentThoughtForCausalLM, shape: StepShape, spread: bool = False) -> Tensor:
    """The passes of a step and the cross-entropy of its labelled positions, as `forward` runs them."""
    from latentthought.model.sharding import supposed_sharded

    with supposed_sharded() if spread else nullcontext(), model.backbone.one_gradient():
        return _scored_passes(model, shape)


def _scored_passes(model: LatentThoughtForCausalLM, shape: StepShape) -> Tensor:
    from latentthought.model.feedback import FeedbackPasses
    from latentthought.model.inputs import ThoughtInputs

    size = (shape.rows, shape.positions)
    ids, mask = torch.zeros(size, dtype=torch.long), _padded(size)
    loss = torch.zeros(())
    if shape.chain:
        loss = loss + _text_loss(model, shape.rows, shape.chain, shape.chain_labels)
    if not shape.thoughts:
        return loss + _text_loss(model, shape.rows, shape.positions, shape.labels)
    columns = tuple(range(shape.before, shape.before + shape.thoughts))
    thinks = torch.zeros(size, dtype=torch.bool)
    inputs = ThoughtInputs.prepare(
        model.backbone.embed(ids, with_head=True), mask, torch.zeros_like(ids), thinks, 0.5, columns, "linear"
    )
    passes = FeedbackPasses(model.backbone, model.scale, "linear", shape.iterations)
    states = passes.run(shape.feedback, inputs).states
    return loss + _head_loss(model, states.final, shape.labels)


def _padded(size: tuple[int, int]) -> Tensor:
    """The attention mask of a batch whose rows differ in length: without padding, attention would need none."""
    mask_BT = torch.ones(size, dtype=torch.long)
    mask_BT[0, 0] = 0
    return mask_BT


def _text_loss(model: LatentThoughtForCausalLM, rows: int, positions: int, labels: int) -> Tensor:
    ids, mask = torch.zeros((rows, positions), dtype=torch.long), _padded((rows, positions))
    embeds = model.backbone.embed(ids) if model.backbone.checkpointing else None
    final = model.backbone.run(embeds, mask, torch.zeros_like(ids), input_ids=ids).final
    return _head_loss(model, final, labels) if labels else final.float().sum() * 0.0


def _head_loss(model: LatentThoughtForCausalLM, final_BTD: Tensor, labels: int) -> Tensor:
    from latentthought.model.chunks import positions_at_once
    from latentthought.model.scoring import summed_loss

    vocabulary = model.backbone.vocabulary
    # in two chunks or fewer: what comes after takes their place
    scored_ND = final_BTD[:, :labels].flatten(0, 1)
    scored_ND = scored_ND[: 2 * positions_at_once(scored_ND, vocabulary)]
    targets_N = torch.zeros(len(scored_ND), dtype=torch.long)
    return summed_loss(model.backbone.head, scored_ND, targets_N, vocabulary, True)[0]
