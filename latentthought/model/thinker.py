"""What thinking and decoding need to know of a model: the one type that their modules share, so that none imports the model."""

from __future__ import annotations

from typing import Protocol

import torch
from transformers import PreTrainedModel

from latentthought.model.backbone import Backbone
from latentthought.model.configuration import ThoughtConfig
from latentthought.thoughts.scale import ScaleMatcher


class Thinker(Protocol):
    """A model that thinks: the base, the view of it that runs passes, how states are scaled, and its settings."""

    base: PreTrainedModel
    backbone: Backbone
    scale: ScaleMatcher
    thought: ThoughtConfig

    @property
    def device(self) -> torch.device: ...
