"""transformers' switch for gradient checkpointing, turned into our own: whole passes are recomputed, and never their layers.

The base's own switch drops the cache inside its layers and gives a wrong loss, so it is never reached from outside; see
`model.backbone` for what is done instead.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from latentthought.errors import UnsupportedError
from latentthought.model.backbone import Backbone


class RecomputedPasses(PreTrainedModel):
    """The part of `LatentThoughtForCausalLM` that trades time for memory."""

    backbone: Backbone

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recompute each pass as a whole in backward. (The base's own switch drops the cache and gives a wrong loss.)

        Never re-entrant, whatever `activation_checkpointing_kwargs` say; with a whole pass as the unit there are no layers to
        pick from.
        """
        if every_n_layers != 1 or offload:
            raise UnsupportedError(
                "gradient checkpointing: a whole pass is recomputed, so every_n_layers and offload do not apply"
            )
        self.backbone.checkpointing = True

    def activation_checkpointing_disable(self) -> None:
        self.backbone.checkpointing = False

    @property
    def is_activation_checkpointing(self) -> bool:
        return self.backbone.checkpointing

    # the names in earlier releases of transformers
    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict | None = None, **options: Any
    ) -> None:
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    gradient_checkpointing_disable = activation_checkpointing_disable
    is_gradient_checkpointing = is_activation_checkpointing
