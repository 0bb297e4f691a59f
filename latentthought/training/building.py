"""From the `model` section of a recipe to a tokenizer and a model.

A model starts from an existing base (`base: owner/name` or a folder) or from nothing (`scratch`), in which case its tokenizer
may be trained on the spot. What `lora` asks for is wrapped around the finished model later (`model.adapters.with_adapters`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import model_validator

from latentthought.config import Config
from latentthought.data.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from latentthought.distillation.pruning.settings import PruningConfig
from latentthought.errors import MissingFileError
from latentthought.model.adapters import AdapterOrigin, LoraSettings, load_base_for
from latentthought.model.configuration import ThoughtConfig
from latentthought.model.locating import locate
from latentthought.model.scratch import ScratchConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from latentthought.model.modeling import LatentThoughtForCausalLM


class ModelConfig(Config):
    """Which model is trained: `base` (hub name, folder, or a run to go on from) or `scratch`, exactly one of them.

    pruning: how the base comes from a larger model; `latentthought prune RECIPE` makes the folder that `base` names.
    thought: how it thinks. tokenizer: a name or folder, or settings of one to train on the spot; by default the base's own, and
    one trained on the spot for a model from scratch. lora: train adapters only.
    """

    base: str | None = None
    scratch: ScratchConfig | None = None
    pruning: PruningConfig | None = None
    thought: ThoughtConfig = ThoughtConfig()
    tokenizer: str | TokenizerConfig | None = None
    lora: LoraSettings | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> ModelConfig:
        if (self.base is None) == (self.scratch is None):
            found = "both" if self.base is not None else "neither"
            raise ValueError(f"give either base (a model's name or folder) or scratch (sizes); found {found}")
        if self.pruning is not None and self.base == self.pruning.model:
            raise ValueError("pruning.model is what base is made from: they cannot be one folder")
        if self.base is not None and isinstance(self.tokenizer, TokenizerConfig):
            raise ValueError("a tokenizer trained on the spot goes with scratch: a base has learnt its own")
        return self

    def build_tokenizer(self, texts: Iterable[str], chat: bool = False) -> PreTrainedTokenizerBase:
        """The tokenizer; `texts` are what one is trained on where the recipe asks for that. chat: it needs a chat template."""
        self.require_pruned()
        if isinstance(self.tokenizer, str):
            return load_tokenizer(self.tokenizer)
        if self.base is not None:
            return load_tokenizer(locate(self.base)[0])
        settings = self.tokenizer if isinstance(self.tokenizer, TokenizerConfig) else TokenizerConfig()
        marks = (self.thought.start_token, self.thought.end_token, self.thought.thought_token)
        wanted = dict.fromkeys([*settings.special_tokens, *(mark for mark in marks if mark is not None)])
        return train_tokenizer(settings.replace(special_tokens=list(wanted)), texts, chat)

    def require_pruned(self) -> None:
        """Raise `MissingFileError`, naming the command that makes it, where a pruned base is not there yet."""
        if self.pruning is not None and self.base is not None and not Path(self.base).is_dir():
            raise MissingFileError(
                f"model.base: there is no folder {self.base} yet; latentthought prune RECIPE makes it from "
                f"{self.pruning.model}"
            )

    def build(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> LatentThoughtForCausalLM:
        """The latent-thought model, without adapters; `seed` fixes the weights of a model from scratch."""
        import torch

        from latentthought.model.modeling import LatentThoughtForCausalLM

        torch.manual_seed(seed)
        origin = self.scratch.build(tokenizer) if self.scratch is not None else self.base
        assert origin is not None
        lora = self.lora or LoraSettings()
        base = load_base_for(origin, lora.quantize, lora.compute_dtype)
        return LatentThoughtForCausalLM.from_base(base, self.thought, tokenizer)

    @property
    def adapter_origin(self) -> AdapterOrigin:
        """What adapters trained by this recipe go onto, for `save_adapter`."""
        lora = self.lora or LoraSettings()
        own = self.tokenizer if isinstance(self.tokenizer, str) else None
        # found again from any working directory
        base = str(Path(self.base).resolve()) if self.base and Path(self.base).is_dir() else self.base
        return AdapterOrigin(
            base=base, tokenizer=own, quantize=lora.quantize, compute_dtype=lora.compute_dtype
        )
