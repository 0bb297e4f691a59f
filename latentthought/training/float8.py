"""FP8: the matrix products of the decoder blocks in eight bits, everything around them as under bf16.

A float8 number (e4m3: three bits of mantissa; e5m2, two, for gradients) takes half the space of a bf16 one, and tensor cores
multiply it twice as fast. Weights stay float32 and whole: what a product reads of weight, input and gradient is scaled into the
range of float8 and rounded for that product alone, so checkpoints, optimizer and `model/` are those of any other run.

Converted are the linear layers inside the decoder blocks, of a base under adapters too. Never: embeddings, head, norms, adapters,
companions, the projector of `scale: mlp`, the router of a mixture of experts (all small, or the first to suffer), a teacher, and
a layer whose widths are no multiples of 16, which the kernels cannot read. While a model is scored, its layers are plain.

Accelerate's own tools do the work (`convert_model_to_fp8_ao`, `apply_fp8_autowrap`), with this rule for a filter. Rejected: its
`Accelerator(mixed_precision="fp8")`. Trainer has no door to it; its path to transformer-engine takes no filter (head and adapters
would turn float8), and leaves a module at the first layer that does not divide; under DeepSpeed it sets no autocast. The bf16
autocast around the layers is the one that it would have set.

A scale belongs to a whole tensor of one pass (`tensorwise`) or to a row of it (`rowwise`): the same rows in other micro-batches
round differently: runs repeat and (by torchao) resume bit for bit, but equalities over batches and passes hold up to float8 only.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from latentthought.config import Config
from latentthought.errors import ConfigError, UnsupportedError, require_extra

if TYPE_CHECKING:
    from torch import Tensor, nn

    from latentthought.recipe import Recipe

PURPOSE = "engine.precision fp8"
TRANSFORMER_ENGINE = "transformer-engine"
# what the kernels of either library divide by
MULTIPLE = 16
# Ada and later; AMD counts otherwise
CAPABILITY, AMD_CAPABILITY = (8, 9), (9, 4)
_ROUTERS = frozenset({"gate", "router"})


class Float8Config(Config):
    """How `precision: fp8` is done; read with that precision only.

    backend: `auto` takes transformer-engine where it imports and can do what the engine asks for, else torchao.
    recipe: what shares a scale: a whole tensor, or (torchao) each of its rows, which is more exact and slower.
    """

    backend: Literal["auto", "torchao", "transformer-engine"] = "auto"
    recipe: Literal["tensorwise", "rowwise"] = "tensorwise"


@dataclass(frozen=True)
class Choice:
    """Which library rounds and multiplies on a device (`cpu`, `cuda:0`), and why that one."""

    backend: str
    recipe: str
    device: str
    why: str

    @property
    def native(self) -> bool:
        """By the hardware's own products, not by emulation."""
        return self.device != "cpu"

    def __str__(self) -> str:
        how = self.recipe if self.native else f"{self.recipe}, emulated on the CPU: slow, for tests"
        return f"{self.backend} ({how}); {self.why}"


@dataclass(frozen=True)
class Converted:
    """What `convert` did: layers in float8, and linear layers of the blocks left alone because of their widths."""

    choice: Choice
    layers: int
    odd: int

    def __str__(self) -> str:
        left = f", {self.odd} left alone (widths no multiple of {MULTIPLE})" if self.odd else ""
        return f"fp8 in {self.layers} linear layers{left} by {self.choice}"


def check_float8(recipe: Recipe) -> None:
    """Raise `ConfigError` for a recipe that does not go with its `precision: fp8`, or hardware that has none, `MissingExtraError`
    without a library; does nothing for another precision."""
    engine, lora = recipe.engine, recipe.model.lora
    if engine.precision != "fp8":
        return
    if lora is not None and lora.quantize != "none":
        raise ConfigError(
            f"{PURPOSE}: a base in {lora.quantize} (model.lora.quantize) multiplies in a type of its own; allowed for it: "
            "fp32, bf16; or leave the base whole (model.lora.quantize=none)"
        )
    choose(engine.fp8, engine.place(), engine.gradient_checkpointing)


def choose(settings: Float8Config, device: str, recomputing: bool = False) -> Choice:
    """The library for a device (`cpu`, `cuda`, `cuda:0`). recomputing: with gradient checkpointing.

    Raises `ConfigError` for a device without FP8 and for a library that cannot do what is asked, `MissingExtraError` without one.
    """
    if device != "cpu" and (lack := _lack(device)):
        raise ConfigError(f"{PURPOSE}: {lack}; allowed here: fp32, bf16, fp16")
    unfit = _unfit_for_transformer_engine(settings, device, recomputing)
    if settings.backend == TRANSFORMER_ENGINE:
        if unfit:
            raise ConfigError(
                f"engine.fp8.backend transformer-engine: {unfit}; take torchao (pip install 'latentthought[fp8]')"
            )
        require_extra("transformer_engine.pytorch", "te", "engine.fp8.backend transformer-engine")
        return Choice(TRANSFORMER_ENGINE, "delayed scaling", device, "as asked for")
    if settings.backend == "auto":
        unfit = unfit or _import_problem("transformer_engine.pytorch")
        if unfit is None:
            return Choice(TRANSFORMER_ENGINE, "delayed scaling", device, "it imports")
    require_extra("torchao.float8", "fp8", PURPOSE)
    why = "as asked for" if settings.backend == "torchao" else f"not transformer-engine: {unfit}"
    return Choice("torchao", settings.recipe, device, why)


def describe(device: str) -> str:
    """What `precision: fp8` would do here, or why it would not, for `latentthought doctor`."""
    try:
        return str(choose(Float8Config(), device))
    except (ConfigError, UnsupportedError, ImportError) as error:
        return f"no: {str(error).removeprefix(PURPOSE).removeprefix(': ').strip()}"


def convert(model: nn.Module, choice: Choice) -> Converted:
    """Turn the linear layers of the decoder blocks to float8, in place; weights, their names and what trains stay as they are.

    model: a latent-thought model, adapters and companions attached. Raises `UnsupportedError` where no layer can be converted.
    """
    from latentthought.model.capture import blocks_of
    from latentthought.training.checkpointing import inside

    blocks = blocks_of(inside(model).base)
    linear = _linear_layers(blocks)
    chosen = {
        name: layer
        for name, layer in linear.items()
        if layer.in_features % MULTIPLE == 0 and layer.out_features % MULTIPLE == 0
    }
    if not chosen:
        family = type(inside(model).base).__name__
        reason = (
            f"the {len(linear)} linear layers in its blocks have widths that are no multiple of {MULTIPLE}"
            if linear
            else "its blocks hold no nn.Linear (GPT-2 has Conv1D in their place), and the libraries convert nothing else"
        )
        raise UnsupportedError(f"{PURPOSE}: nothing of {family} can be converted: {reason}; take bf16")
    if choice.backend == TRANSFORMER_ENGINE:
        _convert_by_transformer_engine(model, blocks, chosen, choice)
    else:
        _convert_by_torchao(blocks, chosen, choice)
    return Converted(choice, len(chosen), len(linear) - len(chosen))


def make_plain(model: nn.Module) -> Callable[[], None]:
    """Put ordinary linear layers, with the same parameters, in place of those in float8; returns what undoes it."""
    import torch

    replaced: list[tuple[str, nn.Module]] = []
    for name, module in list(model.named_modules()):
        if type(module).__name__ != "Float8Linear" and not getattr(module, "_latentthought_float8", False):
            continue
        layer: Any = module
        with torch.device("meta"):
            plain: Any = torch.nn.Linear(layer.in_features, layer.out_features, bias=False)
        plain.weight = layer.weight
        # transformer-engine has an empty tensor where there is no bias
        plain.bias = layer.bias if isinstance(layer.bias, torch.nn.Parameter) else None
        plain.train(layer.training)
        replaced.append((name, module))
        model.set_submodule(name, plain)

    def undo() -> None:
        for name, module in replaced:
            model.set_submodule(name, module.train(model.get_submodule(name).training))

    return undo


@contextmanager
def plain(model: nn.Module) -> Iterator[None]:
    """Ordinary layers for as long as the block lasts: what is scored is what will be saved."""
    undo = make_plain(model)
    try:
        yield
    finally:
        undo()


def _lack(device: str) -> str | None:
    """Why a GPU cannot multiply in float8; None where it can."""
    import torch

    found = torch.cuda.get_device_capability(device)
    wanted = CAPABILITY if torch.version.hip is None else AMD_CAPABILITY
    if found >= wanted:
        return None
    return (
        f"{torch.cuda.get_device_name(device)} has compute capability {found[0]}.{found[1]}, and FP8 begins with "
        f"{wanted[0]}.{wanted[1]} (Ada, Hopper and later)"
    )


def _unfit_for_transformer_engine(settings: Float8Config, device: str, recomputing: bool) -> str | None:
    """Why transformer-engine cannot do what an engine asks for, however well it imports; None where it can."""
    if device == "cpu":
        return "it needs a GPU"
    if settings.recipe == "rowwise":
        return "engine.fp8.recipe rowwise is torchao's"
    if recomputing:
        return (
            "engine.gradient_checkpointing recomputes a pass outside of its FP8 context, in another precision"
        )
    return None


def _import_problem(module: str) -> str | None:
    """Why a module does not import; None where it does. A transformer-engine without its PyTorch part raises RuntimeError."""
    top = module.split(".")[0]
    if importlib.util.find_spec(top) is None:
        return "it is not installed"
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"it does not import ({' '.join(str(error).split())[:200]})"
    return None


def _linear_layers(blocks: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the blocks by name, but for adapters and routers."""
    import torch

    found: dict[str, nn.Linear] = {}
    for name, module in blocks.named_modules():
        parts = name.split(".")
        # exactly this type: what a library has made of one computes in its own way
        if type(module) is not torch.nn.Linear or any(part.startswith("lora_") for part in parts):
            continue
        if _ROUTERS.isdisjoint(parts[-1:]):
            found[name] = module
    return found


def _convert_by_torchao(blocks: nn.Module, chosen: dict[str, nn.Linear], choice: Choice) -> None:
    from accelerate.utils import convert_model_to_fp8_ao

    float8 = require_extra("torchao.float8", "fp8", PURPOSE)
    settings = replace(
        float8.Float8LinearConfig.from_recipe_name(choice.recipe),
        # the gradient of a weight sums over the columns of a pass, and a pass of thoughts may have one column
        pad_inner_dim=True,
        # FSDP's alone; accelerate's own settings turn it on
        enable_fsdp_float8_all_gather=False,
        emulate=not choice.native,
    )
    wanted = {id(layer) for layer in chosen.values()}
    convert_model_to_fp8_ao(
        blocks, config=settings, module_filter_func=lambda module, name: id(module) in wanted
    )


def _convert_by_transformer_engine(
    model: nn.Module, blocks: nn.Module, chosen: dict[str, nn.Linear], choice: Choice
) -> None:
    """Not verified on hardware: no release of it runs without a GPU.

    accelerate's `convert_model` wants an `Accelerator` to be there, which is Trainer's, and makes every layer on the first GPU.
    """
    import torch
    from accelerate.utils import TERecipeKwargs, apply_fp8_autowrap

    engine = require_extra("transformer_engine.pytorch", "te", PURPOSE)
    for name, layer in chosen.items():
        made = engine.Linear(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            params_dtype=layer.weight.dtype,
            device=choice.device,
        )
        for part, parameter in layer.named_parameters():
            with torch.no_grad():
                getattr(made, part).copy_(parameter)
            getattr(made, part).requires_grad_(parameter.requires_grad)
        made._latentthought_float8 = True
        made.forward = _in_full_rows(made.forward)
        blocks.set_submodule(name, made)
    apply_fp8_autowrap(model, TERecipeKwargs())


def _in_full_rows(forward: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
    """transformer-engine refuses a number of positions that does not divide; a pass over thoughts has any number."""
    import torch

    def padded(input: Tensor) -> Tensor:
        rows = input.reshape(-1, input.shape[-1])
        count = rows.shape[0]
        output = forward(torch.nn.functional.pad(rows, (0, 0, 0, -count % MULTIPLE)))
        return output[:count].reshape(*input.shape[:-1], output.shape[-1])

    return padded
