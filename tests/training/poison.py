"""A row that spoils every step it stands in, told by a word that only this row has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback


class Poison(TrainerCallback):
    """row: id of the row. factor: of its states after the final norm; NaN spoils the loss, a large one makes it jump."""

    def __init__(self, row: str, factor: float = float("nan")) -> None:
        self.row, self.factor = row, factor
        self.steps: list[int] = []  # those in which the row stood, from 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **given: Any) -> None:
        data = given["train_dataloader"].dataset
        words = {row.id: {*row.prompt} for row in data.rows}
        others = set().union(*(found for name, found in words.items() if name != self.row))
        own = torch.tensor(sorted(words[self.row] - others))
        assert len(own), "no word of its own"
        marked_B = torch.zeros(0, dtype=torch.bool)

        def look(module: Any, inputs: Any, output: Tensor) -> None:
            nonlocal marked_B
            if inputs[0].ndim == 2:  # the scale is measured on words that stand in no row
                marked_B = torch.isin(inputs[0], own.to(inputs[0].device)).any(1)
                if marked_B.any() and module.training:
                    self.steps.append(state.global_step)

        def spoil(module: Any, inputs: Any, output: Tensor) -> Tensor:
            if output.ndim != 3 or len(output) != len(marked_B) or not marked_B.any():
                return output
            return output * torch.where(marked_B[:, None, None], self.factor, 1.0)

        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        body = inner.base.base_model
        inner.get_input_embeddings().register_forward_hook(look)
        (body.ln_f if hasattr(body, "ln_f") else body.norm).register_forward_hook(spoil)
