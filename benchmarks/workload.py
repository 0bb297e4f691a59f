"""What the benchmarks run on: a random model of GPT-2's architecture and a batch with thoughts in it. Nothing is downloaded.

The arithmetic does not depend on the values of weights, so random ones serve. Dropout is off: sides that draw it in another
order could not be compared. Every row is `prompt | thoughts | answer`, and by default no row is padded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from latentthought.model.configuration import ThoughtConfig
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.thoughts.scale import ScaleKind

# ids at the top of the vocabulary that no prompt or answer contains
RESERVED = 3
# Blocks as GPT-2 initialises them hardly move the state, and greedy decoding repeats one token for ever, which any two programs
# agree on. With blocks this much stronger nearly every token differs from the last and depends on the thoughts. Gradients
# through them are chaotic, so training takes the plain initialisation.
LIVELY = 4.0
# layers, heads and width of the published GPT-2 models, and of one with 1.0 billion weights in its blocks
MODELS = {
    "small": (12, 12, 768),
    "medium": (24, 16, 1024),
    "large": (36, 20, 1280),
    "1b": (20, 16, 2048),
    "xl": (48, 25, 1600),
}


@dataclass(frozen=True)
class Sizes:
    """Model and batch. `sequence` = prompt + thoughts + the text after them, of which all but the first token is labelled.

    `samples`, `long_prompt` and `long_new_tokens`: where many answers to one question are drawn.
    `mixed`: the thoughts are reasoning in words, blended with states; they are labelled too, and so is all that follows.
    """

    layers: int = 12
    heads: int = 12
    width: int = 768
    vocabulary: int = 50257
    batch: int = 4
    sequence: int = 78
    thoughts: int = 6
    labelled: int = 11
    generated_batch: int = 32
    prompt: int = 60
    new_tokens: int = 64
    samples: int = 16
    long_prompt: int = 512
    long_new_tokens: int = 32
    padded: bool = False
    mixed: bool = False

    @property
    def parameters(self) -> int:
        """Weights of the blocks, without embeddings and head (which is tied to them)."""
        return 12 * self.layers * self.width**2

    @property
    def first_thought(self) -> int:
        """Column of the first thought."""
        return self.sequence - self.labelled - 1 - self.thoughts

    @property
    def scored(self) -> int:
        """Labelled positions of a row."""
        return self.sequence - self.first_thought if self.mixed else self.labelled

    @property
    def training_bytes(self) -> int:
        """Roughly what comparing and timing training steps takes: weights, gradients, moments and copies of gradients, and the
        activations of a step with logits everywhere."""
        weights = self.parameters + self.vocabulary * self.width
        positions = self.batch * self.sequence
        return 32 * weights + positions * (160 * self.layers * self.width + 16 * self.vocabulary)

    def of(self, model: str) -> Sizes:
        """The same batch for another model of `MODELS`."""
        layers, heads, width = MODELS[model]
        return replace(self, layers=layers, heads=heads, width=width)

    def quick(self) -> Sizes:
        """Small enough for a test; its times mean nothing."""
        return replace(
            self,
            layers=2,
            heads=4,
            width=64,
            vocabulary=512,
            sequence=28,
            generated_batch=4,
            prompt=12,
            new_tokens=8,
            samples=4,
            long_prompt=40,
            long_new_tokens=8,
        )


@dataclass(frozen=True)
class Batch:
    """A training batch: input_ids, attention_mask, labels, position_ids, all (B, T); thoughts fill columns [start, stop)."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    position_ids: Tensor
    start: int
    stop: int

    @property
    def thought_mask(self) -> Tensor:
        mask = torch.zeros_like(self.input_ids, dtype=torch.bool)
        mask[:, self.start : self.stop] = True
        return mask


def make_base(sizes: Sizes, device: torch.device, seed: int, strength: float = 1.0) -> GPT2LMHeadModel:
    """GPT-2's architecture at these sizes, random fp32 weights, no dropout, no end-of-text token (all rows run to the end).

    `strength` multiplies the initial weights of the blocks.
    """
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=sizes.vocabulary,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_embd=sizes.width,
        n_positions=max(1024, sizes.sequence),
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=sizes.vocabulary - 1,
    )
    base = GPT2LMHeadModel(config)
    with torch.no_grad():
        for block in base.transformer.h:
            for weights in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                weights.weight.mul_(strength)
    return base.to(device)


def make_model(base: GPT2LMHeadModel, scale: ScaleKind = "none") -> LatentThoughtForCausalLM:
    """Our model around `base`, sharing its weights; raw states are fed back, as Coconut does, so that all sides agree."""
    return LatentThoughtForCausalLM.from_base(
        base, ThoughtConfig(scale=scale, start_token=None, end_token=None)
    )


def placeholder(sizes: Sizes) -> int:
    """The id at thought positions, by which the published program finds them."""
    return sizes.vocabulary - 2


def make_prompts(sizes: Sizes, device: torch.device, seed: int) -> Tensor:
    """(generated_batch, prompt) random ids."""
    generator = torch.Generator().manual_seed(seed)
    shape = (sizes.generated_batch, sizes.prompt)
    return torch.randint(sizes.vocabulary - RESERVED, shape, generator=generator).to(device)


def make_prompt(sizes: Sizes, device: torch.device, seed: int) -> Tensor:
    """(1, long_prompt) random ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(sizes.vocabulary - RESERVED, (1, sizes.long_prompt), generator=generator).to(device)


def make_batch(sizes: Sizes, device: torch.device, seed: int) -> Batch:
    """A random batch; with `sizes.padded` row b is left-padded by b columns."""
    generator = torch.Generator().manual_seed(seed)
    shape = (sizes.batch, sizes.sequence)
    ids = torch.randint(sizes.vocabulary - RESERVED, shape, generator=generator)
    start, stop = sizes.first_thought, sizes.first_thought + sizes.thoughts
    if not sizes.mixed:
        ids[:, start:stop] = placeholder(sizes)
    mask = torch.ones_like(ids)
    if sizes.padded:
        for row in range(sizes.batch):
            padding = min(row, start - 1)
            ids[row, :padding], mask[row, :padding] = sizes.vocabulary - 1, 0
    labels = torch.full_like(ids, -100)
    labels[:, -sizes.scored :] = ids[:, -sizes.scored :]
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    return Batch(*(tensor.to(device) for tensor in (ids, mask, labels, positions)), start, stop)
