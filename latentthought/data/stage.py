"""Settings of one stage of a curriculum, and of what to do when a stage fails.

Two classes for one thing: `StageSettings` is what a recipe says about a stage, every field may be left open, so that settings can
be laid over each other; `Stage` is the outcome, where nothing is open. Rejected: one class and pydantic's "fields set", which a
resolved recipe written to a file and read back does not keep.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.thoughts.layout import Feedback
from latentthought.thoughts.schedule import MixSchedule

Decay = Literal["none", "linear", "cosine"]
LatentSteps = int | Literal["all"]


class StageSettings(Config):
    """What one stage may say; whatever it leaves out (null) comes from `first`/`last`, then `each`, then the curriculum.

    steps, epochs: its length; exactly one in the end. With advance_at it is the longest the stage may last.
    latent_steps: how many reasoning steps are thoughts (latent), pauses (pause) or gone (removal); "all" leaves no words.
    mix: the mix ratio over the stage. feedback, jacobi_iterations: see the model's forward.
    advance_at: training accuracy that ends the stage early (`training.learnt_by` says of what); "never" undoes one that is set
        for every stage.
    learning_rate: factor on the run's learning rate. decay: how that factor falls to 0 over the stage.
    reset_optimizer: forget the optimizer's moments when the stage begins.
    replay: share of its batches that are laid out as an earlier stage (drawn evenly), against forgetting.
    uniform_prob: probability that a row uses a random number of latent steps instead of the stage's (Coconut).
    """

    name: str | None = None
    steps: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)
    latent_steps: LatentSteps | None = None
    mix: MixSchedule | None = None
    feedback: Feedback | None = None
    jacobi_iterations: int | None = Field(None, gt=0)
    advance_at: Annotated[float, Field(gt=0, le=1)] | Literal["never"] | None = None
    learning_rate: float | None = Field(None, gt=0)
    decay: Decay | None = None
    reset_optimizer: bool | None = None
    replay: float | None = Field(None, ge=0, lt=1)
    uniform_prob: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> StageSettings:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"give steps or epochs, not both (steps {self.steps}, epochs {self.epochs})")
        if isinstance(self.latent_steps, int) and self.latent_steps < 0:
            raise ValueError(f"latent_steps must be 0 or more, or 'all', not {self.latent_steps}")
        return self


class Stage(StageSettings):
    """One leg of the curriculum with everything decided; fields as in `StageSettings`."""

    name: str = "stage"
    latent_steps: LatentSteps = 0
    mix: MixSchedule = MixSchedule.constant(1.0)
    advance_at: float | None = Field(None, gt=0, le=1)
    feedback: Feedback = "sequential"
    learning_rate: float = Field(1.0, gt=0)
    decay: Decay = "none"
    reset_optimizer: bool = False
    replay: float = Field(0.0, ge=0, lt=1)
    uniform_prob: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _has_length(self) -> Stage:
        if self.steps is None and self.epochs is None:
            raise ValueError(
                f"stage {self.name!r} has no length: give it steps or epochs (or all of them: each.epochs)"
            )
        return self


class OnCollapse(Config):
    """What to do when training accuracy (`training.learnt_by` says of what) falls in a stage that had been fine.

    below: the accuracy that counts as a collapse, once it has been above it for `window` steps on average.
    back: how many stages to go back. learning_rate: factor on the learning rate from then on. limit: how often at most.
    """

    below: float = Field(gt=0, lt=1)
    back: int = Field(1, ge=0)
    learning_rate: float = Field(0.5, gt=0, le=1)
    window: int = Field(50, gt=0)
    limit: int = Field(3, gt=0)
