"""Thoughts before the answer, as they are or under a control that takes out their meaning and leaves their form.

no-thought  the delimiters, and nothing between them: what the mere change of prompt is worth.
pause       the placeholder's embedding at every thought position: what the mere extra positions are worth.
shuffled    the thoughts of another row of the batch, fed as they were: what is worth the same for any question.
noised      noise of the thought's own size (`control_noise`) added to each before it is fed: how exact it has to be.

Everything a control feeds is known beforehand, so all but "noised" is one prefill without recurrence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from transformers import DynamicCache

from latentthought.errors import ConfigError, UnsupportedError, UserError, unknown
from latentthought.model.policy import Budget, Perturbation, ThoughtPolicy
from latentthought.model.think import Prompt, ThinkOutput, ThoughtRun, lay_out, run_thoughts

if TYPE_CHECKING:
    from latentthought.model.thinker import Thinker

Control = Literal["none", "no-thought", "pause", "shuffled", "noised"]
CONTROLS: tuple[str, ...] = get_args(Control)


def read_control(control: str) -> str:
    """The `control` argument, with near misses when it is unknown."""
    if control not in CONTROLS:
        raise ConfigError(unknown("control", control, CONTROLS))
    return control


def controlled_thoughts(
    model: Thinker,
    prompt: Prompt,
    budget: Budget,
    control: str,
    perturb: Perturbation,
    copies: int = 1,
    top_k: int = 0,
    in_step: bool = False,
) -> ThinkOutput:
    """Thoughts of each row under a control, laid out behind the prompts.

    Args:
        budget: thoughts of each prompt, or the policy that finds them.
        perturb: variation of the thoughts; for "noised" the noise itself.
        copies: rows that each prompt becomes, side by side, to think for themselves ("shuffled" takes another prompt's thoughts).
        top_k, in_step: see `run_thoughts`.

    Under "pause" and "shuffled" an adaptive policy first thinks in earnest, to find the counts.
    """
    single, prompt = prompt, prompt.repeat(copies)
    rows = len(prompt.input_ids)
    if isinstance(budget, list):
        budget = [count for count in budget for _ in range(copies)]
    if control == "no-thought":
        delimited = [count > 0 for count in budget] if isinstance(budget, list) else [True] * rows
        empty = model.backbone.embed(prompt.input_ids[:, :0])
        return lay_out(model, prompt, ThoughtRun(empty, empty, [0] * rows, DynamicCache()), delimited)
    pause_tokens = model.thought.fill == "pause"
    if pause_tokens and control in ("shuffled", "noised"):
        raise UnsupportedError(
            f"generate: control={control!r} needs thoughts that are states; this model's are pause tokens"
        )
    if pause_tokens and isinstance(budget, ThoughtPolicy):
        raise UnsupportedError(
            f"generate: a policy of kind {budget.kind!r} asks states, and this model has pause tokens"
        )
    if isinstance(budget, list) and (pause_tokens or control == "pause"):
        return lay_out(model, prompt, _pause(model, budget))
    if control == "shuffled" and rows == copies:
        raise UserError(
            "control: 'shuffled' feeds a row the thoughts of another, so it needs at least two prompts"
        )
    run = run_thoughts(model, single, budget, perturb, top_k, in_step, copies)
    if control == "pause":
        run = _pause(model, run.counts)
    elif control == "shuffled":
        donors = torch.arange(rows, device=model.device).roll(copies)
        counts = [run.counts[donor] for donor in donors.tolist()]
        run = ThoughtRun(run.states[donors], run.inputs[donors], counts, DynamicCache())
    return lay_out(model, prompt, run)


def _pause(model: Thinker, counts: list[int]) -> ThoughtRun:
    if (placeholder := model.thought.thought_token_id) is None:
        raise ConfigError(
            "pause tokens need a placeholder: thought.thought_token_id, or a tokenizer for from_base"
        )
    embeds = model.backbone.embed(torch.full((len(counts), max(counts)), placeholder, device=model.device))
    return ThoughtRun(embeds[:, :0], embeds, counts, DynamicCache())
