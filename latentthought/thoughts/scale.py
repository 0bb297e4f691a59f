"""Scale matching: bringing a hidden state to the size of the model's own embeddings before it is fed back.

The hidden state handed to the head is far larger than an embedding (tens of times in GPT-2), so feeding it back raw pushes
every layer out of the range it was trained in; that is why unscaled loops degrade with each further thought.

`rms`   scale(h) = h * target / RMS(h): one multiplication a thought, nothing learnt. The target is the mean RMS over all
        rows of the embedding module's actual output (Gemma multiplies inside it), measured when a stage starts and saved
        with the model; never per batch, which would make a row depend on its neighbours.
`none`  the raw state, as Coconut does (arXiv 2412.06769).
`mlp`   Linear - GELU - Linear - LayerNorm, then the rms target, as CODI's projection does (arXiv 2502.21074, section 3).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

ScaleKind = Literal["rms", "none", "mlp"]
# keeps an all-zero state finite; far below the square of any real state in fp32, bf16 or fp16
_EPSILON = 1e-12


def root_mean_square(states: Tensor) -> Tensor:
    """RMS over the last dimension, (..., D) -> (..., 1), in fp32 because squares overflow fp16."""
    return states.float().square().mean(-1, keepdim=True).add(_EPSILON).sqrt()


class ScaleMatcher(nn.Module):
    """`scale(h)` of x_t = blend(E_t, scale(h_{t-1}), m_t).

    Args:
        kind: "rms", "none" or "mlp".
        width: D, the width of the embeddings and hidden states.
        hidden_width: inner width of the mlp; D when None.

    Buffer `target` (scalar, fp32 in a model of any dtype): mean RMS of the embedding output; 1 until `measure` was called.
    """

    target: Tensor

    def __init__(self, kind: ScaleKind, width: int, hidden_width: int | None = None):
        super().__init__()
        self.kind = kind
        self.register_buffer("target", torch.ones((), dtype=torch.float32))
        self.projector: nn.Sequential | None = None
        if kind == "mlp":
            inner = hidden_width or width
            self.projector = nn.Sequential(
                nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width), nn.LayerNorm(width)
            )

    def _apply(self, fn: Any, recurse: bool = True) -> ScaleMatcher:
        # a model cast to bf16 keeps the target that was measured: rounding would change its thoughts by up to 0.4 %
        before = self.target
        super()._apply(fn, recurse)
        if self.target.dtype != torch.float32:
            self.target = before.to(self.target.device)
        return self

    @torch.no_grad()
    def measure(self, embedding_rows: Tensor) -> float:
        """Set the target to the mean RMS of `embedding_rows` (..., D), the embedding module's output over the vocabulary."""
        self.target.copy_(root_mean_square(embedding_rows).mean())
        return float(self.target)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., D), same dtype."""
        if self.kind == "none":
            return hidden
        if self.projector is not None:
            # a LayerNorm output has RMS 1 (up to its learnt gain), so the target alone sets the size
            return (self.projector(hidden) * self.target).to(hidden.dtype)
        return (hidden.float() * (self.target / root_mean_square(hidden))).to(hidden.dtype)
