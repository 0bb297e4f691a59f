"""The staged curriculum: which part of a row's reasoning is in words, and which in thoughts, at which stage.

A `Curriculum` is settings alone; `expand()` turns its few lines into explicit stages, and `layout` is a pure function of
(row, stage, random numbers given), so any batch of a run can be made again from its slot number. Sources: Coconut
(arXiv 2412.06769: stages, uniform_prob, padding to the maximum), iCoT (2405.14838: stepwise removal), pause tokens
(2310.02226), and the three phases of the soft mix.
Rejected: a data set built anew for every stage (the published programs do; a resume then has to rebuild and shuffle alike).
"""

from __future__ import annotations

import random
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.data.encoding import Encoded
from latentthought.data.stage import LatentSteps, OnCollapse, Stage, StageSettings
from latentthought.thoughts.layout import Feedback, Row, ThoughtTokens, lay_out
from latentthought.thoughts.schedule import MixSchedule

Method = Literal["latent", "soft_mix", "removal", "pause", "text", "none"]

__all__ = ["Curriculum", "Method", "OnCollapse", "Stage", "StageSettings"]

_STAGED = ("latent", "removal", "pause")


class Curriculum(Config):
    """The method and its stages.

    method:
        latent    stage k replaces the first k steps by k * thoughts_per_step thoughts (Coconut)
        pause     the same positions, but nothing is fed back: the placeholder's own embedding (pause tokens)
        removal   stage k drops the first k steps and puts nothing in their place (iCoT, by steps)
        soft_mix  every word stays; the inputs of the reasoning become blends: text, transition, mixed (S1)
        text      all steps in words (chain of thought)
        none      question to answer
    thoughts_per_step: thoughts that stand for one step. max_latent_steps: the most steps that become latent.
    pad_to_max: a row with fewer steps than its stage replaces gets the stage's number of thoughts all the same.
    drop_rest: after the last stage one more, where the steps beyond max_latent_steps are gone too (Coconut on GSM8K).
    delimiters: put the start and end token in. enclose: around what: the thoughts (Coconut: a row without thoughts has none),
        or all reasoning, in thoughts or words, so that the end token always comes right before the answer.
    label_start, label_end: whether they are in the loss (null: for soft_mix and enclosed reasoning, where the model opens
        and closes its reasoning itself).
    mix: ratio at the thoughts; for soft_mix the transition's schedule, whose end the mixed phase keeps (a bare number is a line
        from 0 to it).
    each, first, last: settings of every, the first, the last stage; enough to expand all stages. `stages` lists them instead,
        with `each` still as their default.
    """

    method: Method
    thoughts_per_step: int = Field(1, gt=0)
    max_latent_steps: int | None = Field(None, gt=0)
    pad_to_max: bool = True
    drop_rest: bool = False
    delimiters: bool = True
    enclose: Literal["thoughts", "reasoning"] = "thoughts"
    label_start: bool | None = None
    label_end: bool | None = None
    mix: MixSchedule = MixSchedule.constant(1.0)
    feedback: Feedback | None = None
    jacobi_iterations: int | None = Field(None, gt=0)
    uniform_prob: float = Field(0.0, ge=0, le=1)
    replay: float = Field(0.0, ge=0, lt=1)
    reset_optimizer: bool = False
    on_collapse: OnCollapse | None = None
    each: StageSettings = StageSettings()
    first: StageSettings = StageSettings()
    last: StageSettings = StageSettings()
    stages: tuple[StageSettings, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Curriculum:
        if self.stages and (self.first != StageSettings() or self.last != StageSettings()):
            raise ValueError("first and last belong to the short form: leave them out when stages are listed")
        if self.method not in _STAGED:
            misplaced = [n for n in ("max_latent_steps", "drop_rest", "uniform_prob") if getattr(self, n)]
            if misplaced:
                raise ValueError(
                    f"{', '.join(misplaced)}: only for the methods {', '.join(_STAGED)}, not {self.method}"
                )
        for number, stage in enumerate(self.expand()):
            self._check_stage(stage, f"stage {number} ({stage.name})")
        self._check_end(self.expand()[-1])
        return self

    def _check_stage(self, stage: Stage, where: str) -> None:
        if stage.latent_steps != 0 and self.method not in _STAGED:
            raise ValueError(
                f"{where}: latent_steps is only for the methods {', '.join(_STAGED)}, not {self.method}"
            )
        if isinstance(stage.latent_steps, int) and stage.latent_steps > (self._most_steps or 0):
            raise ValueError(
                f"{where}: latent_steps {stage.latent_steps} is more than max_latent_steps {self._most_steps}"
            )
        if (
            self._most_steps is None
            and (stage.latent_steps == "all" or stage.uniform_prob)
            and self.method != "removal"
        ):
            raise ValueError(f"{where}: give max_latent_steps, which fixes the number of thoughts of a row")
        if stage.jacobi_iterations is not None and stage.feedback != "jacobi":
            raise ValueError(f"{where}: jacobi_iterations goes with feedback jacobi, not {stage.feedback}")

    def _check_end(self, stage: Stage) -> None:
        # at inference a thought is the state alone, so the model has to have been trained on that in the end
        if self.method == "latent" and stage.mix.at(1.0) != 1.0:
            raise ValueError(
                f"the last stage ({stage.name}): its mix ends at {stage.mix.at(1.0):g}, and method latent thinks with 1; "
                "blends that stay are the method soft_mix"
            )

    # --- stages -------------------------------------------------------------------------------------------------------

    def expand(self) -> tuple[Stage, ...]:
        """Every stage, all settings decided."""
        return self._stages

    @cached_property
    def _stages(self) -> tuple[Stage, ...]:
        if self.stages:
            return tuple(self._resolve({}, [self.each, stage], i) for i, stage in enumerate(self.stages))
        outline = self._outline()
        resolved = []
        for index, automatic in enumerate(outline):
            layers = [self.each]
            layers += [self.first] if index == 0 else []
            layers += [self.last] if index == len(outline) - 1 else []
            resolved.append(self._resolve(automatic, layers, index))
        return tuple(resolved)

    def _outline(self) -> list[dict[str, Any]]:
        """What the short form decides about each stage."""
        if self.method == "soft_mix":
            end = self.mix.at(1.0)
            transition = (
                MixSchedule(kind="linear", start=0.0, end=end) if self.mix.kind == "constant" else self.mix
            )
            return [
                {"name": "text", "mix": MixSchedule.constant(0.0)},
                {"name": "transition", "mix": transition},
                {"name": "mixed", "mix": MixSchedule.constant(end)},
            ]
        if self.method not in _STAGED:
            return [{}]
        if self.max_latent_steps is None:
            raise ValueError(f"method {self.method} needs max_latent_steps, or its stages listed")
        return [{"latent_steps": k} for k in range(self.max_latent_steps + 1)] + (
            [{"latent_steps": "all"}] if self.drop_rest else []
        )

    def _resolve(self, automatic: dict[str, Any], layers: list[StageSettings], index: int) -> Stage:
        """Lay the settings over each other, the last one given wins; a length in one unit replaces one in the other."""
        values: dict[str, Any] = {
            "mix": self.mix,
            "feedback": self.feedback or ("single_pass" if self.method == "soft_mix" else "sequential"),
            "jacobi_iterations": self.jacobi_iterations,
            "uniform_prob": self.uniform_prob,
            "replay": self.replay if index else 0.0,
            # there is nothing to forget before the first stage
            "reset_optimizer": self.reset_optimizer and index > 0,
            **automatic,
        }
        for layer in layers:
            given = {
                name: value
                for name in StageSettings.model_fields
                if (value := getattr(layer, name)) is not None
            }
            if "steps" in given or "epochs" in given:
                values |= {"steps": None, "epochs": None}
            values.update(given)
        if values.get("advance_at") == "never":
            values["advance_at"] = None
        values.setdefault("name", self._name(values.get("latent_steps", 0)))
        return Stage(**values)

    def _name(self, latent_steps: LatentSteps) -> str:
        if self.method not in _STAGED:
            return self.method
        return "text" if latent_steps == 0 else f"{self.method}-{latent_steps}"

    def with_steps(self, steps: int) -> Curriculum:
        """The same stages, each `steps` steps long at most (a smoke run); what was short form stays so."""

        def shortened(settings: StageSettings) -> dict[str, Any]:
            return settings.replace(steps=min(steps, settings.steps or steps), epochs=None).dump()

        def if_given(settings: StageSettings) -> dict[str, Any]:
            has_length = settings.steps is not None or settings.epochs is not None
            return shortened(settings) if has_length else settings.dump()

        return self.replace(
            each=shortened(self.each),
            first=if_given(self.first),
            last=if_given(self.last),
            stages=[if_given(stage) for stage in self.stages],
        )

    def pick_stage(self, index: int, rng: random.Random) -> int:
        """The stage that a batch of stage `index` is laid out as: itself, or an earlier one with probability `replay`."""
        stage = self.expand()[index]
        if stage.replay and index > 0 and rng.random() < stage.replay:
            return rng.randrange(index)
        return index

    # --- thoughts -----------------------------------------------------------------------------------------------------

    @cached_property
    def _most_steps(self) -> int | None:
        if self.max_latent_steps is not None:
            return self.max_latent_steps
        listed = [s.latent_steps for s in (self.each, *self.stages) if isinstance(s.latent_steps, int)]
        return max(listed) if listed and max(listed) > 0 else None

    def thoughts(self, index: int = -1) -> int:
        """Thought (or pause) positions of a full row at a stage; at the last one, what `generate` should use."""
        if self.method not in ("latent", "pause"):
            return 0
        return self._steps_replaced(self.expand()[index].latent_steps) * self.thoughts_per_step

    def columns(self, index: int) -> int | None:
        """Columns that a batch of the stage keeps for fed-back states, whatever its rows hold; None where every
        reasoning position may be one (soft_mix), so that no fixed block exists."""
        if self.method == "soft_mix":
            return None
        if self.method != "latent":
            return 0
        if self.expand()[index].uniform_prob:
            return (self._most_steps or 0) * self.thoughts_per_step
        return self.thoughts(index)

    def _steps_replaced(self, latent_steps: LatentSteps) -> int:
        return (self._most_steps or 0) if isinstance(latent_steps, str) else latent_steps

    # --- rows ---------------------------------------------------------------------------------------------------------

    def layout(self, encoded: Encoded, index: int, rng: random.Random | None, tokens: ThoughtTokens) -> Row:
        """Lay out one example at a stage. `rng` is seeded by the caller from the slot, and read only where uniform_prob > 0.

        A uniform draw is over 0..number of steps, and beyond max_latent_steps means "all", as published.
        """
        stage = self.expand()[index]
        latent_steps: LatentSteps = stage.latent_steps
        if stage.uniform_prob and rng is not None and rng.random() < stage.uniform_prob:
            latent_steps = self._drawn(rng.randint(0, len(encoded.steps)))
        return self._row(encoded, latent_steps, tokens)

    def _drawn(self, steps: int) -> LatentSteps:
        return "all" if self._most_steps is not None and steps > self._most_steps else steps

    def _row(self, encoded: Encoded, latent_steps: LatentSteps, tokens: ThoughtTokens) -> Row:
        steps, thoughts, soft, first_step = encoded.steps, 0, self.method == "soft_mix", 0
        closes_itself = soft or self.enclose == "reasoning"
        if self.method == "none":
            first_step = len(steps)
        elif self.method in _STAGED:
            replaced = self._steps_replaced(latent_steps)
            if not self.pad_to_max:
                replaced = min(replaced, len(steps))
            thoughts = 0 if self.method == "removal" else replaced * self.thoughts_per_step
            first_step = len(steps) if latent_steps == "all" else min(latent_steps, len(steps))
        return lay_out(
            encoded.prompt,
            steps[first_step:],
            encoded.answer,
            tokens,
            thoughts=thoughts,
            feed_thoughts=self.method == "latent",
            mix_steps=soft,
            delimiters=self.delimiters,
            enclose_steps=self.enclose == "reasoning",
            label_start=closes_itself if self.label_start is None else self.label_start,
            label_end=closes_itself if self.label_end is None else self.label_end,
            id=encoded.id,
            first_step=first_step,
            per_step=self.thoughts_per_step,
        )

    def longest(self, encoded: Encoded, tokens: ThoughtTokens = ThoughtTokens(0, 0, 0)) -> int:
        """Length of the longest row that any stage can make of the example (what has to fit the context)."""
        ways: set[LatentSteps] = {stage.latent_steps for stage in self.expand()}
        if any(stage.uniform_prob for stage in self.expand()):
            ways |= {self._drawn(steps) for steps in range(len(encoded.steps) + 1)}
        return max(len(self._row(encoded, way, tokens)) for way in ways)
