"""What a latent-thought model is: a base model's config and how its thoughts are made."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from transformers import AutoConfig, PreTrainedConfig

from latentthought.config import Config
from latentthought.thoughts.layout import ThoughtTokens
from latentthought.thoughts.mixing import BlendRule
from latentthought.thoughts.scale import ScaleKind


class ThoughtConfig(Config):
    """How a hidden state becomes the next input.

    scale, scale_width: see `thoughts.scale`; the width is the inner one of the mlp.
    blend: see `thoughts.mixing`.
    layer: which state is fed back. -1 is the state the base hands to its head (after the final norm); b is the output of
        block b, 0 the embeddings.
    start_token, end_token: delimiters around a thought segment, None for none. thought_token: the placeholder. Their ids
        are filled in by `from_base(..., tokenizer=...)`, which adds what the tokenizer lacks; without a tokenizer give the
        ids. The placeholder's embedding is read only by pause positions and soft blends.
    thoughts: how many thoughts `generate` runs when it is not told (what the model was trained with); 0 is text.
    fill: "latent" feeds states back; "pause" puts the placeholder's embedding at every thought position (pause tokens).
    """

    scale: ScaleKind = "rms"
    scale_width: int | None = Field(None, gt=0)
    blend: BlendRule = "linear"
    layer: int = Field(-1, ge=-1)
    start_token: str | None = "<|start-thought|>"
    end_token: str | None = "<|end-thought|>"
    thought_token: str = "<|thought|>"
    start_token_id: int | None = Field(None, ge=0)
    end_token_id: int | None = Field(None, ge=0)
    thought_token_id: int | None = Field(None, ge=0)
    thoughts: int = Field(0, ge=0)
    mix_ratio: float = Field(0.0, ge=0.0, le=1.0)
    fill: str = Field("latent", pattern="^(latent|pause)$")

    @property
    def tokens(self) -> ThoughtTokens:
        """The ids that a layout writes; without a placeholder of its own, id 0 stands for it."""
        return ThoughtTokens(self.start_token_id, self.end_token_id, self.thought_token_id or 0)


class LatentThoughtConfig(PreTrainedConfig):
    """Config of `LatentThoughtForCausalLM`: the base's own config under `text_config`, and a `ThoughtConfig`.

    The name `text_config` is what makes `get_text_config()`, embedding resizing, dtype and attention choice of
    transformers reach the base by themselves. `prompt_format` holds the prompt format of training, so that evaluation
    can prompt alike; `added_token_ids` are the rows that the base did not have, which LoRA trains beside its own weights.
    """

    model_type = "latent_thought"
    sub_configs = {"text_config": AutoConfig}
    keys_to_ignore_at_inference = [
        *("past_key_values", "thoughts", "thought_counts", "hidden", "monitor"),
        *("captured", "value", "reading"),
    ]

    def __init__(
        self,
        text_config: PreTrainedConfig | dict[str, Any] | None = None,
        thought: ThoughtConfig | dict[str, Any] | None = None,
        prompt_format: dict[str, Any] | None = None,
        added_token_ids: list[int] | None = None,
        **kwargs: Any,
    ):
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        elif text_config is None:  # transformers builds a default config to find what differs from it
            text_config = AutoConfig.for_model("llama")
        self.text_config = text_config
        self.thought = thought.dump() if isinstance(thought, ThoughtConfig) else dict(thought or {})
        self.prompt_format = prompt_format
        self.added_token_ids = list(added_token_ids or [])
        for shared in ("pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings"):
            kwargs.setdefault(shared, getattr(text_config, shared, None))
        kwargs["tie_word_embeddings"] = bool(kwargs["tie_word_embeddings"])
        super().__init__(**kwargs)

    @property
    def thought_config(self) -> ThoughtConfig:
        """The settings of `thought`, validated."""
        return ThoughtConfig.parse(self.thought, where="config.thought")


AutoConfig.register(LatentThoughtConfig.model_type, LatentThoughtConfig, exist_ok=True)
