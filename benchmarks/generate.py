"""Greedy answers after thoughts, against the base model's own `generate` for the same positions.

Floor: a thought costs what a token costs, one pass over one position a row. So the floor is the base model's `generate` writing
S + N tokens where ours thinks S thoughts and writes N. In operations, for B rows: 2 (P + V D) a position and pass plus attention,
which is little. In bytes: every pass reads all W = P + V D weights (4 W in fp32) and the cache of B rows (8 L D t bytes a row at
length t). At 32 rows GPT-2 small reads 0.5 GB of weights a pass for 8 GFLOP: the batch is what makes them worth reading,
and one row at a time, as the published program decodes, reads the same weights for a single token. It also runs the whole
prefix again for every token: N (T + S + N / 2) positions instead of N.

Two floors are shown: S + N new tokens, with as many passes as ours, which ratios refer to; and N new tokens after a prompt that
is S tokens longer, which are read at once: what is left when nothing has to wait for anything, out of reach for thoughts.

Tokens are compared with those of a loop without a cache, one row at a time. No row ends early: the model has no end token.

A thought step stands beside a decode step: `think` and the base model's `generate` from one token, so that every pass of
either is one position a row. A thought saves the head and the choice of a token, V D of P + V D weights. Its states are
compared with those of the same loop without a cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import rivals, workload
from benchmarks.agreement import (
    Disagreement,
    counted,
    require_same_passes,
    require_same_tokens,
    require_same_work,
)
from benchmarks.report import Floor, Report, Row, Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, Timing, measure
from benchmarks.workload import Sizes
from latentthought.model.modeling import LatentThoughtForCausalLM

ROUNDS = 3
CHECKED_ROWS = 2
OURS, FLOOR = "latentthought generate", "base generate, thoughts as tokens"
THOUGHT, DECODE = "thought step", "decode step of base generate"
# passes of one position a row that one timing of a step is taken over
STEPS = 16
STATE_TOLERANCE = 1e-3


def floor_of(sizes: Sizes) -> Floor:
    """Operations and bytes of prompt, S + N passes of one position and their heads; see the module."""
    rows, passes = sizes.generated_batch, sizes.thoughts + sizes.new_tokens
    head = sizes.vocabulary * sizes.width
    length = sizes.prompt + passes
    operations = 2 * rows * (sizes.parameters * length + head * passes)
    operations += 2 * rows * sizes.layers * sizes.width * length**2
    cached = sum(8 * sizes.layers * sizes.width * t for t in range(sizes.prompt, length))
    return Floor(operations, 4 * passes * (sizes.parameters + head) + rows * cached)


def run(settings: Settings) -> Report:
    """Check that the sides agree, then time them."""
    sizes, device = settings.sizes, settings.device
    base = workload.make_base(sizes, device, settings.seed, strength=workload.LIVELY).eval()
    model = workload.make_model(base)
    prompts = workload.make_prompts(sizes, device, settings.seed)
    longer = torch.cat([prompts, prompts[:, : sizes.thoughts]], dim=1)
    thought_id = workload.placeholder(sizes)
    skipped, published = {}, None
    if settings.coconut is None:
        skipped[rivals.PUBLISHED] = "no folder given (--coconut DIR)"
    else:
        published = rivals.PublishedProgram(settings.coconut, base, thought_id)

    ours = partial(our_tokens, model, prompts, sizes.thoughts, sizes.new_tokens)
    floor = partial(base_tokens, model, prompts, sizes.thoughts + sizes.new_tokens)
    settings.progress("generate: comparing tokens")
    agreement = check(model, prompts, sizes, published)
    if settings.dtype != torch.float32:
        base.to(settings.dtype)

    rows = sizes.generated_batch
    naive = partial(rivals.naive_tokens, base, prompts[0], thought_id, sizes.thoughts, sizes.new_tokens)
    one = f"1 of {rows} rows, extrapolated"
    sides = [
        Side(
            FLOOR,
            "floor",
            floor,
            f"{sizes.thoughts} + {sizes.new_tokens} new tokens",
        ),
        Side(
            OURS,
            "ours",
            ours,
            f"{sizes.thoughts} thoughts + {sizes.new_tokens} new tokens",
        ),
        Side(
            "base generate, longer prompt",
            "text",
            partial(base_tokens, model, longer, sizes.new_tokens),
            f"{sizes.prompt} + {sizes.thoughts} prompt tokens",
        ),
        Side(rivals.NAIVE, "rival", naive, one, share=1 / rows),
    ]
    if published is not None:
        tokens = partial(published.tokens, prompts[0], sizes.thoughts, sizes.new_tokens)
        sides.append(Side(rivals.PUBLISHED, "rival", tokens, f"{one}; {published.note}", share=1 / rows))
    first, alone = prompts[:, :1], (rows, "positions/s")
    think, decode = partial(our_states, model, first, STEPS), partial(base_tokens, model, first, STEPS)
    note = f"one of {STEPS} from a single token"
    sides += [
        Side(DECODE, "text", decode, note, share=STEPS, units=alone),
        Side(THOUGHT, "ours", think, note, over=DECODE, share=STEPS, units=alone),
    ]
    timings = measure(
        sides,
        device,
        settings.rounds_or(ROUNDS),
        progress=lambda text: settings.progress(f"generate: {text}"),
    )
    table = Row.of(sides, timings, agreement, unit="answer tokens/s", units=rows * sizes.new_tokens)
    return Report(
        name="generate",
        title=f"greedy generation, {rows} rows, prompts of {sizes.prompt} tokens, "
        f"{sizes.thoughts} thoughts + {sizes.new_tokens} tokens",
        floor=floor_of(sizes),
        rows=table,
        skipped=skipped,
        targets=targets_of(timings, settings),
    )


def targets_of(timings: dict[str, Timing], settings: Settings) -> list[Target]:
    """What was promised for this device."""
    ours, coconut = timings[OURS], rivals.PUBLISHED if rivals.PUBLISHED in timings else rivals.NAIVE
    on_gpu = settings.device.type == "cuda"
    found = [
        Target.at_least(
            OURS, f"speed over Coconut ({coconut})", timings[coconut].ratio(ours), 100 if on_gpu else 40
        ),
        Target.at_most(THOUGHT, "time over a decode step", timings[THOUGHT].ratio(timings[DECODE]), 1.1),
    ]
    if not on_gpu:
        speed = timings[FLOOR].ratio(ours)
        found.insert(0, Target.at_least(OURS, "speed over the base model's generate", speed, 1.0))
    return found


def our_tokens(model: LatentThoughtForCausalLM, prompts: Tensor, thoughts: int, new_tokens: int) -> Tensor:
    """(B, N) new tokens after thoughts."""
    output = model.generate(
        prompts,
        torch.ones_like(prompts),
        thoughts=thoughts,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
    )
    return output[:, prompts.shape[1] :]


def base_tokens(model: LatentThoughtForCausalLM, prompts: Tensor, new_tokens: int, **how: Any) -> Tensor:
    """(rows, N) new tokens of the base model's own `generate`, greedily or as `how` says."""
    chosen = {"do_sample": False, "max_new_tokens": new_tokens, "min_new_tokens": new_tokens, **how}
    output = model.base.generate(prompts, attention_mask=torch.ones_like(prompts), **chosen)
    return output[:, prompts.shape[1] :]


def our_states(model: LatentThoughtForCausalLM, prompts: Tensor, thoughts: int) -> Tensor:
    """(B, S, D) states that are fed back after the prompts; a pass each, the prompt's included."""
    return model.think(prompts, thoughts=thoughts).states


def check(
    model: LatentThoughtForCausalLM, prompts: Tensor, sizes: Sizes, published: rivals.PublishedProgram | None
) -> dict[str, str]:
    """Side -> what the comparison found. Disagreement when sides that should agree do not."""
    thought_id, thoughts, new = workload.placeholder(sizes), sizes.thoughts, sizes.new_tokens
    with counted(model.base.base_model) as our_work:
        tokens = our_tokens(model, prompts, thoughts, new).cpu()
    with counted(model.base.base_model) as floor_work:
        text = base_tokens(model, prompts, thoughts + new)
    require_same_work(OURS, our_work, floor_work)
    require_same_passes(OURS, our_work, floor_work)
    for name, produced, count in (
        (OURS, tokens, new),
        (FLOOR, text, thoughts + new),
    ):
        if produced.shape[1] != count:
            raise Disagreement(f"{name} produced {produced.shape[1]} tokens a row instead of {count}")
    by_hand = [
        rivals.naive_tokens(model.base, prompt, thought_id, thoughts, new)
        for prompt in prompts[:CHECKED_ROWS]
    ]
    reference, gaps = (torch.stack(part) for part in zip(*by_hand, strict=True))
    same_work = f"same: {floor_work.passes} passes, {floor_work.positions} positions a row"
    found = {
        FLOOR: same_work,
        OURS: require_same_tokens(OURS, tokens[:CHECKED_ROWS], reference, gaps),
        "base generate, longer prompt": "another question",
        rivals.NAIVE: "the reference",
    }
    if published is not None:
        name = rivals.PUBLISHED
        theirs = torch.stack(
            [published.tokens(prompt, thoughts, new).cpu() for prompt in prompts[:CHECKED_ROWS]]
        )
        found[name] = require_same_tokens(name, theirs, reference, gaps)
    return found | check_steps(model, prompts[:, :1], thoughts)


@torch.no_grad()
def check_steps(model: LatentThoughtForCausalLM, first: Tensor, thoughts: int) -> dict[str, str]:
    """The same passes by `think` and by the base's `generate`, and the first states held against a loop without a cache."""
    with counted(model.base.base_model) as our_work:
        states = our_states(model, first, STEPS)
    with counted(model.base.base_model) as floor_work:
        base_tokens(model, first, STEPS)
    require_same_work(THOUGHT, our_work, floor_work)
    require_same_passes(THOUGHT, our_work, floor_work)
    inputs = model.base.get_input_embeddings()(first)
    worst = 0.0
    for count in range(thoughts):
        expected = model.base.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, -1]
        off = float((states[:, count] - expected).norm() / expected.norm())
        if not off <= STATE_TOLERANCE:
            raise Disagreement(
                f"{THOUGHT}: thought {count} is {off:.1e} off that of a loop without a cache (tolerance {STATE_TOLERANCE:g})"
            )
        worst = max(worst, off)
        inputs = torch.cat([inputs, expected[:, None]], dim=1)
    return {
        DECODE: f"{floor_work.passes} passes",
        THOUGHT: f"same: {our_work.passes} passes, states {worst:.0e}",
    }
