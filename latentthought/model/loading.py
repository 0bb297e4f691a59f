"""From what a user calls a model (run folder, model folder or hub name) to a loaded model and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentthought.errors import ConfigError
from latentthought.model.locating import ADAPTER_CONFIG, locate, read_config


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for use. `run` is the run folder that the argument named, if it named one."""

    model: Any
    tokenizer: Any
    run: Path | None


def load_model(
    argument: str, device: str | None = None, dtype: Any = "auto", tokenizer: str | None = None
) -> LoadedModel:
    """Load the model that `argument` names, in evaluation mode, with its tokenizer.

    A plain Hugging Face model is wrapped as it is: it answers in text, and thinks without delimiters. An adapter is merged into
    its base, which is fetched.

    Args:
        device: None is a GPU if there is one. dtype: a torch dtype or its name; "auto" is as the weights were saved.
        tokenizer: another one's name or folder.
    """
    where, run = locate(argument)
    import torch

    from latentthought.data.tokenizer import load_tokenizer
    from latentthought.model.adapters import load_adapter
    from latentthought.model.configuration import LatentThoughtConfig
    from latentthought.model.modeling import LatentThoughtForCausalLM

    place = torch.device(resolve_device(device))
    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype != "auto" else dtype
    if wanted != "auto" and not isinstance(wanted, torch.dtype):
        raise ConfigError(f"dtype {dtype!r}: no such type; allowed: auto, float32, bfloat16, float16")
    if isinstance(where, Path) and (where / ADAPTER_CONFIG).is_file():
        model = load_adapter(where)
        model = model if wanted == "auto" else model.to(wanted)
    elif isinstance(read_config(where), LatentThoughtConfig):
        model = LatentThoughtForCausalLM.from_pretrained(where, dtype=wanted)
    else:
        model = LatentThoughtForCausalLM.from_base(where, dtype=wanted)
    return LoadedModel(model.to(place).eval(), load_tokenizer(tokenizer or where), run)


def resolve_device(name: str | None) -> str:
    """A device by its name, a GPU if there is one for None; `ConfigError` for one that is not there."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r}: no such device; allowed: cpu, cuda, cuda:N, mps") from None
    if place.type == "cuda" and (
        not torch.cuda.is_available() or (place.index or 0) >= torch.cuda.device_count()
    ):
        raise ConfigError(f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps: this machine has none")
    return name
