"""Modules that train beside a model and are no part of it: projectors, an auxiliary decoder.

They live inside the model, as `model.companions`, because an engine trains only what is used inside the module that it has
wrapped. All the same they are nobody's business afterwards: `save_pretrained`, exports and adapters leave them out, and a
checkpoint, which keeps everything that trains, has them. Beside a model or an adapter they have a file of their own,
`companions.safetensors`, whose header says what each one is, so that a projector of another width is an error that
names both widths and not a tensor of the wrong shape.

Attach them after `get_peft_model`, which freezes whatever it finds and, with "all-linear", adapts it too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentthought.errors import ConfigError, DamagedFileError, MissingFileError
from latentthought.model.headed import read_headed
from latentthought.model.sharding import whole, whole_copies

COMPANIONS = "companions.safetensors"
FORMAT, VERSION = "latentthought-companions", 1


@runtime_checkable
class Companion(Protocol):
    """What a companion has beside its forward: `description`, plain values that fix its shape (kind, widths, layer pairs)."""

    @property
    def description(self) -> dict[str, Any]: ...


class WithCompanions(PreTrainedModel):
    """The part of `LatentThoughtForCausalLM` that holds companions."""

    companions: nn.ModuleDict
    _keys_to_ignore_on_save: set[str] | list[str] | None

    def attach(self, name: str, module: nn.Module) -> None:
        """Let `module`, a `Companion`, train beside the model: moved to its device, left out of `save_pretrained`.

        Raises ConfigError for a name that is taken.
        """
        assert isinstance(module, Companion), f"{type(module).__name__} has no description"
        if name in self.companions:
            raise ConfigError(f"companions: two are called {name!r}")
        self.companions[name] = module.to(self.device)
        # transformers turns the class's list into a set of the model's own, of whole keys and not of patterns
        ignored = {f"companions.{name}.{key}" for key in module.state_dict()}
        self._keys_to_ignore_on_save = {*(self._keys_to_ignore_on_save or ()), *ignored}


def save_companions(model: WithCompanions, folder: Path, write: bool = True) -> Path | None:
    """Write `companions.safetensors`, whole or not at all; nothing, and None, where the model has no companions.

    write: False on the ranks that only take part in bringing the parts of a tensor together (ZeRO-3).
    """
    if not model.companions:
        return None
    header = {"format": FORMAT, "version": str(VERSION), "companions": json.dumps(_descriptions(model))}
    path = Path(folder) / COMPANIONS
    tensors = _tensors(model)
    kept = whole_copies(tensors, keep=write)
    if write:
        temporary = path.with_name(path.name + ".tmp")
        try:
            save_file(kept, temporary, metadata=header)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def load_companions(model: WithCompanions, folder: Path) -> None:
    """Read `companions.safetensors` into the companions that are attached, strictly.

    Raises MissingFileError without the file, ConfigError when it was written by another version or for other companions
        (each difference named with both values), DamagedFileError when it does not read or lacks a tensor.
    """
    path = Path(folder) / COMPANIONS
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    header, stored = read_headed(path, FORMAT, VERSION)
    _check_header(path, header, _descriptions(model))
    wanted = _tensors(model)
    with whole(wanted.values(), changed=True), torch.no_grad():
        if problems := _misfits(stored, wanted):
            raise DamagedFileError(f"{path}: {'; '.join(problems[:5])}")
        for key, tensor in wanted.items():
            tensor.copy_(stored[key])


def _misfits(stored: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    problems = [f"missing {key}" for key in sorted(wanted.keys() - stored.keys())]
    problems += [f"unexpected {key}" for key in sorted(stored.keys() - wanted.keys())]
    problems += [
        f"{key} has shape {tuple(stored[key].shape)}, its header asks for {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & stored.keys())
        if stored[key].shape != wanted[key].shape
    ]
    return problems


def _tensors(model: WithCompanions) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; tied ones once."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in model.companions.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            tensors[key] = tensor
        seen.add(id(tensor))
    return tensors


def _descriptions(model: WithCompanions) -> dict[str, dict[str, Any]]:
    # through JSON, as the file has it: tuples become lists
    return json.loads(
        json.dumps(
            {name: module.description for name, module in model.companions.items()},
            sort_keys=True,
        )
    )


def _check_header(path: Path, header: dict[str, str], wanted: dict[str, dict[str, Any]]) -> None:
    try:
        stored = json.loads(header["companions"])
        missing, left_over = wanted.keys() - stored.keys(), stored.keys() - wanted.keys()
        differences = [
            f"{name}.{key} is {stored[name].get(key)!r} in the file and {value!r} in the model"
            for name in sorted(wanted.keys() & stored.keys())
            for key, value in wanted[name].items()
            if stored[name].get(key) != value
        ]
    except (KeyError, ValueError, AttributeError) as error:
        raise DamagedFileError(f"{path}: its header does not say what it holds: {error!r}") from None
    differences += [f"{name} is not in the file" for name in sorted(missing)]
    differences += [f"{name} is not in the model" for name in sorted(left_over)]
    if differences:
        raise ConfigError(f"{path}: {'; '.join(differences)}")
