"""Hidden states of chosen blocks, taken by forward hooks that live for one pass.

transformers' `output_hidden_states` keeps every layer's states, and its last entry is after the final norm, so the raw output
of the last block cannot be had from it at all. A hook keeps what was asked for and nothing else; it copies nothing, and costs
microseconds a pass. The hooks are gone when the pass is over, so a block that is recomputed in backward captures nothing
a second time. They are registered last and so run last: engines that wrap a block's output (ZeRO-3) have done so by then.

Keys: 0 is the input of block 1, b the output of block b (1 to L, before the final norm), -1 the state after the final norm.
Rejected: hooks that stay registered (they would fire in recomputation, in `generate`, and in every copy of the model).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from latentthought.errors import ConfigError, UnsupportedError


def block_count(base: PreTrainedModel) -> int:
    """L, the number of blocks."""
    return base.config.get_text_config().num_hidden_layers


def check_layers(base: PreTrainedModel, layers: Collection[int]) -> None:
    """Raise `ConfigError` for a key of no layer; names the model's range."""
    blocks = block_count(base)
    for layer in layers:
        if not -1 <= layer <= blocks:
            raise ConfigError(
                f"capture: layer {layer} is out of range: the model has blocks 1 to {blocks} "
                "(0: the input of block 1, -1: after the final norm)"
            )


def blocks_of(base: PreTrainedModel) -> nn.ModuleList:
    """The blocks in order: the outermost list of as many modules as the config has layers.

    Found anew each time, since pruning and some engines replace the list; it is a child of the decoder in every family.
    """
    wanted, waiting = block_count(base), deque([base.get_decoder()])
    while waiting:
        module = waiting.popleft()
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
        waiting.extend(module.children())
    raise UnsupportedError(f"{type(base).__name__}: found no list of its {wanted} blocks to capture from")


@contextmanager
def capturing(base: PreTrainedModel, layers: Collection[int]) -> Iterator[dict[int, Tensor]]:
    """A dict that holds, after one pass of `base` inside the block, the states (B, T, D) of `layers` (0 to L)."""
    captured: dict[int, Tensor] = {}
    if not layers:
        yield captured
        return

    def keep_input(_block: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> None:
        captured[0] = arguments[0] if arguments else keywords["hidden_states"]

    def keep_output(layer: int) -> Any:
        def keep(_block: nn.Module, _arguments: tuple, output: Any) -> None:
            # a tuple in the releases of transformers whose blocks also return attentions
            captured[layer] = output[0] if isinstance(output, tuple) else output

        return keep

    blocks = blocks_of(base)
    with ExitStack() as hooks:
        for layer in layers:
            if layer == 0:
                handle = blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True)
            else:
                handle = blocks[layer - 1].register_forward_hook(keep_output(layer))
            hooks.callback(handle.remove)
        yield captured
