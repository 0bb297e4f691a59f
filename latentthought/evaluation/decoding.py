"""What a model is asked for when it generates, and what of it a model can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentthought.errors import ConfigError, UnsupportedError, unknown
from latentthought.evaluation.models import mixes, positions_taken

CONTROLS = ("none", "no-thought", "pause", "shuffled", "noised")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to generate: handed to `model.generate` as it is. temperature None is greedy."""

    max_new_tokens: int
    thoughts: Any = None
    mix_ratio: float | None = None
    control: str = "none"
    temperature: float | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.control not in CONTROLS:
            raise ConfigError(unknown("control", self.control, [*CONTROLS, "all"]))
        if self.temperature is not None and self.temperature <= 0:
            raise ConfigError(f"temperature: above 0, or none for greedy decoding (got {self.temperature})")


def is_latent(model: Any) -> bool:
    """Whether the model thinks, or can only write."""
    return hasattr(model, "think")


def controls_for(model: Any, thoughts: Any = None, mix_ratio: float | None = None) -> tuple[str, ...]:
    """The controls that mean something for this model under these settings: a text model has none but `none`.

    A pause-token model has no states to shuffle or noise; mixed decoding feeds states among words and can only be noised.
    """
    config = getattr(model, "thought", None)
    mixed = (
        mix_ratio
        if mix_ratio is not None
        else (getattr(config, "mix_ratio", 0.0) if thoughts is None else 0.0)
    )
    if mixed:
        return ("none", "noised")
    count = getattr(config, "thoughts", 0) if thoughts is None else thoughts
    if not is_latent(model) or (isinstance(count, int) and count == 0):
        return ("none",)
    if getattr(config, "fill", "latent") == "pause":
        return ("none", "no-thought")
    if getattr(config, "thought_token_id", 0) is None:
        return ("none", "no-thought", "shuffled", "noised")
    return CONTROLS


def check_decoding(model: Any, decoding: Decoding) -> None:
    """Refuse thoughts and controls on a model that has none, and what is no number of thoughts."""
    if is_latent(model):
        overhead(model, decoding)
        return
    if decoding.control != "none":
        raise UnsupportedError(
            f"control {decoding.control!r} needs a model with latent thoughts; this one is a plain language model"
        )
    if decoding.thoughts not in (None, 0) or decoding.mix_ratio:
        raise UnsupportedError(
            "thoughts need a model with latent thoughts; this one is a plain language model (thoughts=0)"
        )


def overhead(model: Any, decoding: Decoding) -> int:
    """Positions that thoughts take beside prompt and new tokens: none where they are written among these."""
    if mixes(model, decoding.thoughts, decoding.mix_ratio) or decoding.options.get("hybrid"):
        return 0
    return positions_taken(model, decoding.thoughts)
