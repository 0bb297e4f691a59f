"""The model that teaches: frozen, without gradients, of its own type and on its own device.

Any Hugging Face causal language model, or a latent-thought model, which may teach with its thoughts. The teacher is no part of
the student: it is held by the trainer, so that it never reaches the optimizer, a checkpoint, an adapter or an engine's buckets.
`teacher.model: self` is no teacher of this kind: the student then reads the whole chain of thought beside its own row, in the
same wrapped forward (self distillation, CODI, arXiv 2502.21074).
Cost: one forward without graph a batch, of which only the asked layers are kept; no logits but where they are asked for. Whole on
every process unless `sharded`, which brings its weights together anew for every forward, and is for teachers that would not fit.
Rejected: the teacher as a submodule of the student (engines would shard, average and save it), and quantising it unasked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from latentthought.config import Config
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import FormatConfig
from latentthought.data.fitting import Overlong
from latentthought.data.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer
from latentthought.distillation.cache.spec import CacheConfig
from latentthought.distillation.fingerprints import files_fingerprint, tensors_fingerprint
from latentthought.distillation.on_policy import OnPolicyConfig
from latentthought.distillation.reader import Reader, whole_text
from latentthought.distillation.responses import ResponsesConfig
from latentthought.distillation.saved import SavedModel, adapter_base
from latentthought.errors import (
    ConfigError,
    HubUnreachableError,
    MissingFileError,
    NotFoundError,
    UnsupportedError,
)
from latentthought.model.scratch import ScratchConfig
from latentthought.processes import process_count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from latentthought.model.configuration import ThoughtConfig
    from latentthought.model.modeling import LatentThoughtForCausalLM

SELF = "self"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# what of a collated batch the forward takes; labels are left out, since nothing of the teacher is scored
_ARGUMENTS = (
    *("input_ids", "attention_mask", "position_ids", "thought_mask", "thought_columns"),
    *("mix_ratio", "feedback", "jacobi_iterations"),
)


class TeacherConfig(Config):
    """Who teaches, and how it reads.

    model: a hub name, a model folder, a run folder, or `self` (the student as it reads the whole chain of thought).
    scratch: in its place, a model with random weights (for tests and smoke runs).
    recipe: the recipe whose run `model` is; `--smoke` makes that run first where it is missing.
    reads: `text`, the whole chain of thought in words; or `thoughts`, as the last stage of `curriculum` lays a row out.
    curriculum, format: the teacher's own; None takes the student's.
    tokenizer: another one's name or folder; for `scratch` settings of one to train on the spot, None takes the student's.
    dtype: `auto` as the weights were saved. device: `auto` is the student's, or a GPU where there is one.
    sharded: deal its weights out to the processes of a run by zero3, instead of all of them to each.
    batch_size: rows at once while states are extracted.
    cache: where its states are kept (`latentthought teacher extract`); None runs the teacher beside the student.
    responses: its own answers to the recipe's rows (`latentthought teacher respond`), on which the student then trains.
    on_policy: compare some steps on the student's own text; None is teacher forcing alone.
    """

    model: str | None = Field(None, min_length=1)
    scratch: ScratchConfig | None = None
    recipe: str | None = None
    reads: Literal["text", "thoughts"] = "text"
    curriculum: Curriculum | None = None
    format: FormatConfig | None = None
    tokenizer: str | TokenizerConfig | None = None
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    sharded: bool = False
    batch_size: int = Field(16, gt=0)
    cache: CacheConfig | None = None
    responses: ResponsesConfig | None = None
    on_policy: OnPolicyConfig | None = None

    @model_validator(mode="after")
    def _holds(self) -> TeacherConfig:
        if (self.model is None) == (self.scratch is None):
            found = "both" if self.model is not None else "neither"
            raise ValueError(f"give either model (name, folder or {SELF}) or scratch (sizes); found {found}")
        if self.model is not None and isinstance(self.tokenizer, TokenizerConfig):
            raise ValueError("a tokenizer trained on the spot goes with scratch: a model has learnt its own")
        if self.on_policy is not None and self.cache is not None:
            raise ValueError("on_policy: the student's own text is in no cache: leave one of them out")
        if self.sharded and self.cache is not None:
            raise ValueError("sharded: a run that reads a cache loads no teacher: leave one of them out")
        if self.sharded and self.device != "auto":
            raise ValueError(
                f"sharded: every process holds a share on its own device, not on {self.device}; leave device out"
            )
        if self.is_self:
            others = ("tokenizer", "format", "cache", "responses", "recipe")
            given = [name for name in others if getattr(self, name)]
            given += ["reads"] if self.reads != "text" else []
            given += ["sharded"] if self.sharded else []
            if given:
                raise ValueError(f"{', '.join(given)}: not with model: {SELF}, which is the student itself")
        return self

    @property
    def is_self(self) -> bool:
        """Whether the student is its own teacher."""
        return self.model == SELF

    @property
    def name(self) -> str:
        """What messages and manifests call the teacher."""
        return self.model or "scratch"

    def smoke_changes(self) -> dict[str, Any]:
        """What `--smoke` changes: a tiny teacher that is wider and deeper than the tiny student, in place of a real one."""
        if self.is_self:
            return {}
        tiny = {"layers": 3, "width": 48, "heads": 4, "kv_heads": None, "mlp_width": 96}
        architecture = self.scratch.architecture if self.scratch else "llama"
        tokenizer = self.dump()["tokenizer"]
        return {
            "model": None,
            "scratch": {"architecture": architecture, "max_positions": 1024, "options": {}, **tiny},
            "tokenizer": tokenizer if isinstance(tokenizer, dict) else None,
            "dtype": "auto",
            "device": "auto" if self.sharded else "cpu",
            "batch_size": 4,
            **({"cache": self.cache.smoke_changes()} if self.cache else {}),
            **({"responses": self.responses.smoke_changes()} if self.responses else {}),
        }


class Teacher:
    """A frozen model in evaluation mode with its tokenizer.

    name: what messages call it. where: its folder or hub name, None for a model without files.
    """

    def __init__(
        self,
        model: LatentThoughtForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "teacher",
        where: Any = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self._where = where
        self._engine: Any = None

    @classmethod
    def load(
        cls,
        config: TeacherConfig,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        thought: ThoughtConfig | None = None,
        texts: Iterable[str] = (),
        chat: bool = False,
        seed: int = 0,
        device: str | None = None,
        spread: Mapping[str, Any] | None = None,
    ) -> Self:
        """The teacher that `config` names.

        Args:
            tokenizer, thought: the student's, for a teacher from scratch that has none of its own.
            texts, chat: what a tokenizer is trained on the spot with, and whether it needs a chat template.
            seed: of the weights of a teacher from scratch. torch's generator is left as it was.
            device: where `config.device` is auto.
            spread: DeepSpeed's settings of the student, by which a teacher that is to be sharded is dealt out to the processes;
                they then have to make the same calls of it. None leaves it whole.

        Raises: `ConfigError` for `self` and for a teacher that does not fit the memory; what `load_model` raises, with the
        command that would train the teacher where `config.recipe` is known.
        """
        from latentthought.model.loading import resolve_device

        if config.is_self:
            raise ConfigError(f"teacher.model: {SELF} is the student itself, and nothing is loaded for it")
        place = resolve_device(device if config.device == "auto" else config.device)
        spread = spread if config.sharded else None
        if config.scratch is None:
            return cls._loaded(config, place, spread)
        own = config.tokenizer
        if isinstance(own, str):
            tokenizer = load_tokenizer(own)
        elif own is not None:
            tokenizer = train_tokenizer(own, texts, chat)
        if tokenizer is None:
            raise ConfigError("teacher.tokenizer: a teacher from scratch needs one")
        model = _from_scratch(config.scratch, tokenizer, thought, config.dtype, seed)
        return cls(model.to(torch.device(place)), tokenizer, config.name)._dealt_out(spread)

    @classmethod
    def _loaded(cls, config: TeacherConfig, device: str, spread: Mapping[str, Any] | None) -> Self:
        from latentthought.distillation.forecast import check_memory
        from latentthought.model.loading import load_model
        from latentthought.model.locating import locate
        from latentthought.model.spreading import frozen_settings, spread_loading

        assert config.model is not None
        dtype: Any = DTYPES.get(config.dtype, "auto")
        tokenizer = config.tokenizer if isinstance(config.tokenizer, str) else None
        try:
            where, _ = locate(config.model)
            check_memory(where, dtype, device, 1 if spread is None else process_count())
            if spread is not None:
                spread = frozen_settings(spread, _type_to_deal_out(where, dtype))
            with spread_loading(spread):
                loaded = load_model(config.model, device, dtype, tokenizer)
        except (MissingFileError, NotFoundError, HubUnreachableError) as error:
            hint = f"; train it first: latentthought train {config.recipe} --output {config.model}"
            raise type(error)(f"teacher.model: {error}{hint if config.recipe else ''}") from None
        return cls(loaded.model, loaded.tokenizer, config.name, where)._dealt_out(spread)

    def _dealt_out(self, spread: Mapping[str, Any] | None) -> Self:
        from latentthought.model.spreading import frozen_settings, spread_frozen

        if spread is not None:
            self._engine = spread_frozen(self.model, frozen_settings(spread, self.dtype))
        return self

    @property
    def where_it_stands(self) -> str:
        """For the log: how a teacher that is not whole on every process is spread; else nothing."""
        return (
            "" if self._engine is None else f", its weights spread over {self._engine.world_size} processes"
        )

    @property
    def width(self) -> int:
        """D of its states."""
        return self.model.backbone.width

    @property
    def blocks(self) -> int:
        """Number of its blocks."""
        return self.model.backbone.blocks

    @property
    def vocabulary(self) -> int:
        """Rows of its head."""
        return self.model.backbone.vocabulary

    @property
    def positions(self) -> int | None:
        """Positions that it has; None for a model that does not say."""
        return self.model.backbone.positions

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its weights: of its files, of its tensors where it has none."""
        return tensors_fingerprint(self.model) if self._where is None else files_fingerprint(self._where)

    def reader(
        self,
        config: TeacherConfig,
        format: FormatConfig,
        curriculum: Curriculum,
        max_length: int | None = None,
        overlong: Overlong = "drop",
    ) -> Reader:
        """Reads rows as `config` says. format, curriculum: the student's, where the teacher has none of its own; max_length,
        overlong: of the recipe's data."""
        curriculum, thought = config.curriculum or curriculum, self.model.thought
        if config.reads == "text":
            curriculum = whole_text(curriculum)
        elif thought.thought_token_id is None:
            raise ConfigError(
                f"teacher.reads: thoughts needs a latent-thought model, and {self.name} is none; allowed for it: text"
            )
        elif thought.blend == "bernoulli" and curriculum.method == "soft_mix":
            raise UnsupportedError(
                f"teacher.reads: {self.name} draws which of its thoughts are states (blend bernoulli), so its states would "
                "differ from batch to batch; allowed for it: text"
            )
        limits = [limit for limit in (max_length, self.positions) if limit is not None]
        limit = min(limits, default=None)
        return Reader(self.tokenizer, config.format or format, curriculum, thought.tokens, limit, overlong)

    @torch.no_grad()
    def states(self, batch: Mapping[str, Any], layers: Sequence[int]) -> dict[int, Tensor]:
        """(B, T, D) states of a batch of `Reader.collate` by layer, in the teacher's type, on the batch's device.

        layers: capture keys, see `forward(capture=...)`. The states carry no graph, and may be used in one.
        """
        home = batch["input_ids"].device
        arguments = on_device({name: batch[name] for name in _ARGUMENTS if name in batch}, self.device)
        # the student's mixed precision is not the teacher's
        with torch.autocast(self.device.type, enabled=False):
            output = self.model(**arguments, return_logits=False, capture=tuple(layers))
        return {layer: output.captured[layer].to(home, non_blocking=home.type == "cuda") for layer in layers}

    @torch.no_grad()
    def head(self, hidden: Tensor) -> Tensor:
        """(..., D) states after the final norm -> (..., V) logits, on the states' device."""
        with torch.autocast(self.device.type, enabled=False):
            return self.model.backbone.head(hidden.to(self.device, self.dtype)).to(hidden.device)


def _type_to_deal_out(where: Path | str, dtype: Any) -> torch.dtype:
    """What a saved teacher loads in, which has to be known before; a `ConfigError` for one that is put together whole."""
    if adapter_base(where) is not None:
        raise ConfigError(
            f"teacher.sharded: {where} is an adapter, which is merged into its base as a whole; write it out as a model "
            f"(latentthought export {where} --to hf), or leave sharded out"
        )
    return dtype if isinstance(dtype, torch.dtype) else SavedModel.at(where).dtype


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


def _from_scratch(
    sizes: ScratchConfig,
    tokenizer: PreTrainedTokenizerBase,
    thought: ThoughtConfig | None,
    dtype: str,
    seed: int,
) -> LatentThoughtForCausalLM:
    from latentthought.model.modeling import LatentThoughtForCausalLM

    with torch.random.fork_rng():
        # of a seed of its own: a student of the same sizes would otherwise be its teacher's twin
        torch.manual_seed(zlib.crc32(f"{seed} teacher".encode()))
        base = sizes.build(tokenizer)
        return LatentThoughtForCausalLM.from_base(base.to(DTYPES.get(dtype, base.dtype)), thought, tokenizer)
