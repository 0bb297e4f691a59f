"""From the `model` section of a recipe to a tokenizer and a model.

A model starts from an existing base (`base: owner/name` or a folder) or from nothing (`scratch`), in which case its tokenizer
may be trained on the spot. LoRA wraps the whole latent-thought model, never its base, and the rows of new tokens are the
only embedding rows that train beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.data.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from latentthought.errors import ConfigError, nearest, require_extra, unknown
from latentthought.model.configuration import ThoughtConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from latentthought.model.modeling import LatentThoughtForCausalLM

# turns as they come: for tokenizers trained on the spot, which have no chat template of their own
_PLAIN_CHAT = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


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
        from transformers import AutoConfig, AutoModelForCausalLM

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
        config = AutoConfig.for_model(
            self.architecture,
            **{**values, **self.options},
            vocab_size=len(tokenizer),
            tie_word_embeddings=self.tied,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        return AutoModelForCausalLM.from_config(config)


class LoraSettings(Config):
    """Low-rank adapters (needs the extra `peft`).

    r, alpha, dropout: as in LoRA (arXiv 2106.09685). targets: module names; empty takes what peft knows for the family.
    """

    r: int = Field(16, gt=0)
    alpha: float = Field(32.0, gt=0.0)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    targets: tuple[str, ...] = ()


class ModelConfig(Config):
    """Which model is trained: `base` (hub name or folder) or `scratch`, exactly one of them.

    thought: how it thinks. tokenizer: a name or folder, or settings of one to train on the spot; by default the base's own, and
    one trained on the spot for a model from scratch. lora: train adapters only.
    """

    base: str | None = None
    scratch: ScratchConfig | None = None
    thought: ThoughtConfig = ThoughtConfig()
    tokenizer: str | TokenizerConfig | None = None
    lora: LoraSettings | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> ModelConfig:
        if (self.base is None) == (self.scratch is None):
            found = "both" if self.base is not None else "neither"
            raise ValueError(f"give either base (a model's name or folder) or scratch (sizes); found {found}")
        if self.base is not None and isinstance(self.tokenizer, TokenizerConfig):
            raise ValueError("a tokenizer trained on the spot goes with scratch: a base has learnt its own")
        return self

    def build_tokenizer(self, texts: Iterable[str], chat: bool = False) -> PreTrainedTokenizerBase:
        """The tokenizer; `texts` are what one is trained on where the recipe asks for that. chat: it needs a chat template."""
        if self.base is not None or isinstance(self.tokenizer, str):
            return load_tokenizer(self.tokenizer if isinstance(self.tokenizer, str) else self.base)  # type: ignore[arg-type]
        settings = self.tokenizer if isinstance(self.tokenizer, TokenizerConfig) else TokenizerConfig()
        marks = (self.thought.start_token, self.thought.end_token, self.thought.thought_token)
        wanted = dict.fromkeys([*settings.special_tokens, *(mark for mark in marks if mark is not None)])
        tokenizer = train_tokenizer(settings.replace(special_tokens=list(wanted)), texts)
        if chat:
            tokenizer.chat_template = _PLAIN_CHAT
        return tokenizer

    def build(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> LatentThoughtForCausalLM:
        """The latent-thought model, without adapters; `seed` fixes the weights of a model from scratch."""
        import torch

        from latentthought.model.modeling import LatentThoughtForCausalLM

        torch.manual_seed(seed)
        origin = self.scratch.build(tokenizer) if self.scratch is not None else self.base
        assert origin is not None
        # weights are float32 whatever the file holds: a small AdamW step is lost in a bf16 weight
        options = {} if self.scratch is not None else {"dtype": torch.float32}
        return LatentThoughtForCausalLM.from_base(origin, self.thought, tokenizer, **options)


def with_adapters(model: LatentThoughtForCausalLM, settings: LoraSettings) -> Any:
    """The model wrapped by peft: adapters, new token rows and the scale's projector (where there is one) train, nothing else.

    Raises `MissingExtraError` without peft, `ConfigError` for a target that the model lacks.
    """
    peft = require_extra("peft", "peft", "model.lora")
    targets = list(settings.targets) or _known_targets(model.base.config.model_type)
    rows = list(getattr(model.config, "added_token_ids", None) or [])
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
        trainable_token_indices=_row_modules(model, rows) if rows else None,
    )
    try:
        wrapped = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"model.lora.targets {targets}: {str(error).splitlines()[0]}") from None
    for parameter in model.scale.parameters():
        parameter.requires_grad_(True)
    return wrapped


def _known_targets(model_type: str) -> list[str]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known

    if model_type not in known:
        raise ConfigError(
            f"model.lora.targets: peft has no default for {model_type!r}; name the modules to adapt"
        )
    return list(known[model_type])


def _row_modules(model: LatentThoughtForCausalLM, rows: list[int]) -> dict[str, list[int]]:
    """Module names of the embedding and of an untied head, each with the rows that train."""
    modules = {model.get_input_embeddings()}
    if not model.config.tie_word_embeddings:
        modules.add(model.get_output_embeddings())
    return {name: rows for name, module in model.named_modules() if module in modules}
