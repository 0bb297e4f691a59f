"""Which axis of which weight is what: the stream, query heads, key heads or MLP channels.

Families name the same layers differently and some fuse several into one, so a layer's axes are told by its name, in one table for
all of them; vectors beside these are norms. A model with a layer that the table lacks is refused
by name rather than cut by guess. A head's own channels are never cut, so an axis of heads counts in heads of `head_dim`.
Rejected: torch-pruning (traces a graph for each model to find the same table, and knows neither grouped heads nor configs).
"""

from __future__ import annotations

from typing import Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from latentthought.errors import UnsupportedError
from latentthought.model.capture import blocks_of

Axis = Literal["hidden", "heads", "keys", "mlp"]
# of a layer by the last part of its name: its outputs, in the order that they lie in, and its inputs
_LAYERS: dict[str, tuple[tuple[Axis, ...], Axis]] = {
    "q_proj": (("heads",), "hidden"),
    "k_proj": (("keys",), "hidden"),
    "v_proj": (("keys",), "hidden"),
    "qkv_proj": (("heads", "keys", "keys"), "hidden"),
    "o_proj": (("hidden",), "heads"),
    "gate_proj": (("mlp",), "hidden"),
    "up_proj": (("mlp",), "hidden"),
    "gate_up_proj": (("mlp", "mlp"), "hidden"),
    "down_proj": (("hidden",), "mlp"),
    # GPT-2
    "c_attn": (("heads", "keys", "keys"), "hidden"),
    "attn.c_proj": (("hidden",), "heads"),
    "c_fc": (("mlp",), "hidden"),
    "mlp.c_proj": (("hidden",), "mlp"),
}


# for each dimension of a parameter the parts that it consists of; none for one that stays whole (vocabulary, positions, a head)
Axes = tuple[tuple[Axis, ...], ...]


def axes_of(model: PreTrainedModel) -> dict[str, Axes]:
    """The axes of every parameter, by name. Raises `UnsupportedError` for a model with layers that are not known."""
    inside = {id(module) for block in blocks_of(model) for module in block.modules()}
    size = head_size(model.config.get_text_config())
    axes: dict[str, Axes] = {}
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.Embedding):
                found: Axes = ((), ("hidden",))
            elif isinstance(module, (nn.Linear, Conv1D)):
                found = _of_layer(model, name, module, own) if id(module) in inside else _of_head(own)
            elif parameter.dim() == 1:
                found = (_of_norm(name, len(parameter), size),)
            else:
                raise _unknown(model, f"{name}.{own}")
            axes[f"{name}.{own}"] = found
    return axes


def blocks_prefix(model: PreTrainedModel) -> str:
    """What the names of all that is in blocks begin with, before a block's number from 0."""
    blocks = blocks_of(model)
    return next(name for name, module in model.named_modules() if module is blocks) + "."


def head_size(config: object) -> int:
    """Channels of one head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads  # type: ignore[attr-defined]


def key_heads(config: object) -> int:
    """Key and value heads."""
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads  # type: ignore[attr-defined]


def mlp_size(config: object) -> int:
    """Channels of an MLP; GPT-2's config leaves its own at None."""
    given = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return given or 4 * config.hidden_size  # type: ignore[attr-defined]


def _of_layer(
    model: PreTrainedModel, name: str, module: nn.Linear | Conv1D, own: str
) -> tuple[tuple[Axis, ...], ...]:
    parent, _, last = name.rpartition(".")
    known = _LAYERS.get(f"{parent.rpartition('.')[2]}.{last}") or _LAYERS.get(last)
    if known is None:
        raise _unknown(model, name)
    outputs, inputs = known
    if own == "bias":
        return (outputs,)
    return ((inputs,), outputs) if isinstance(module, Conv1D) else (outputs, (inputs,))


def _of_head(own: str) -> Axes:
    return ((), ("hidden",)) if own == "weight" else ((),)


def _of_norm(name: str, length: int, head_size: int) -> tuple[Axis, ...]:
    """Norms are on the stream, but for those of queries and keys, which are on one head (Qwen3) or on all (OLMo 2)."""
    last = name.rpartition(".")[2]
    if last in ("q_norm", "k_norm"):
        return () if length == head_size else ("heads",) if last == "q_norm" else ("keys",)
    return ("hidden",)


def _unknown(model: PreTrainedModel, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{type(model).__name__}: {name} is not a layer that width pruning knows; depth pruning works for every model"
    )
