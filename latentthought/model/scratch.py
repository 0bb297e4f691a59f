"""A base model from nothing: sizes in a recipe to a Hugging Face causal language model with random weights.

Students, teachers and smoke runs start here. Families name the same size differently (`intermediate_size`, `n_inner`), so all
the names are offered and only those that a family's own config knows are set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.errors import ConfigError, nearest, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class ScratchConfig(Config):
    """A base model from nothing.

    architecture: a transformers model type (llama, gpt2, qwen3, gemma3_text, mistral, phi3, olmo2, ...).
    width D, layers, heads, kv_heads (None: heads), mlp_width (None: 4 D), max_positions, tied (embedding and head).
    initializer_range: standard deviation of the first weights.
    options: any other setting of the architecture's own config, by its name there.
    """

    architecture: str = "llama"
    layers: int = Field(2, gt=0)
    width: int = Field(64, gt=0)
    heads: int = Field(4, gt=0)
    kv_heads: int | None = Field(None, gt=0)
    mlp_width: int | None = Field(None, gt=0)
    max_positions: int = Field(1024, gt=0)
    tied: bool = True
    initializer_range: float = Field(0.02, gt=0.0)
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> ScratchConfig:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES as known

        if self.architecture not in known:
            close = nearest(self.architecture, known)
            raise ValueError(
                f"unknown architecture {self.architecture!r}; "
                f"{'did you mean ' + ' or '.join(close) if close else 'for example llama, gpt2, qwen3'}"
            )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide among {self.heads} heads")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} do not divide among {self.kv_heads} kv_heads")
        return self

    def build(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """The model with random weights drawn from torch's generator, its vocabulary the tokenizer's."""
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(
            self.config(
                vocab_size=len(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )

    def config(self, **tokens: Any) -> PreTrainedConfig:
        """The architecture's own config of these sizes. tokens: `vocab_size` and ids of special tokens; None leaves a default."""
        from transformers import AutoConfig

        values = {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads or self.heads,
            "head_dim": self.width // self.heads,
            "intermediate_size": self.mlp_width or 4 * self.width,
            "n_inner": self.mlp_width or 4 * self.width,
            "max_position_embeddings": self.max_positions,
            "initializer_range": self.initializer_range,
        }
        # families differ in what they call these, so only what a family's own config knows is set
        template = AutoConfig.for_model(self.architecture)
        wrong = [name for name in self.options if not hasattr(template, name)]
        if wrong:
            raise ConfigError(
                f"model.scratch.options: {unknown(self.architecture + ' setting', wrong[0], template.to_dict())}"
            )
        values = {name: value for name, value in values.items() if hasattr(template, name)}
        given = {name: value for name, value in tokens.items() if name != "vocab_size" or value is not None}
        return AutoConfig.for_model(
            self.architecture, **{**values, **self.options}, **given, tie_word_embeddings=self.tied
        )
