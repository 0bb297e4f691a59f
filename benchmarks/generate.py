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
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks import rivals, workload
from benchmarks.agreement import Disagreement, counted, require_same_tokens, require_same_work
from benchmarks.report import Floor, Report, Row, Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, measure
from benchmarks.workload import Sizes
from latentthought.model.modeling import LatentThoughtForCausalLM

ROUNDS = 3
CHECKED_ROWS = 2
OURS, NAIVE, PUBLISHED = "latentthought generate", "naive loop, as published", "published Coconut program"


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
        skipped[PUBLISHED] = "no folder given (--coconut DIR)"
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
            "base generate, thoughts as tokens",
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
        Side(NAIVE, "rival", naive, one, share=1 / rows),
    ]
    if published is not None:
        tokens = partial(published.tokens, prompts[0], sizes.thoughts, sizes.new_tokens)
        sides.append(Side(PUBLISHED, "rival", tokens, f"{one}; {published.note}", share=1 / rows))
    timings = measure(
        sides,
        device,
        settings.rounds_or(ROUNDS),
        progress=lambda text: settings.progress(f"generate: {text}"),
    )
    table = Row.of(sides, timings, agreement, unit="answer tokens/s", units=rows * sizes.new_tokens)
    slowest = NAIVE if published is None else PUBLISHED
    return Report(
        name="generate",
        title=f"greedy generation, {rows} rows, prompts of {sizes.prompt} tokens, "
        f"{sizes.thoughts} thoughts + {sizes.new_tokens} tokens",
        floor=floor_of(sizes),
        rows=table,
        skipped=skipped,
        targets=[
            Target.at_least(OURS, "speed over the base model's generate", 1 / table[1].ratio, 1.0),
            Target.at_least(OURS, f"speed over the {slowest}", timings[slowest].ratio(timings[OURS]), 40),
        ],
    )


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


def base_tokens(model: LatentThoughtForCausalLM, prompts: Tensor, new_tokens: int) -> Tensor:
    """(B, N) new tokens of the base model's own `generate`."""
    output = model.base.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
    )
    return output[:, prompts.shape[1] :]


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
    if our_work.passes != floor_work.passes:
        raise Disagreement(f"{OURS} makes {our_work.passes} passes, the floor {floor_work.passes}")
    for name, produced, count in (
        (OURS, tokens, new),
        ("base generate", text, thoughts + new),
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
        "base generate, thoughts as tokens": same_work,
        OURS: require_same_tokens(OURS, tokens[:CHECKED_ROWS], reference, gaps),
        "base generate, longer prompt": "another question",
        NAIVE: "the reference",
    }
    if published is not None:
        theirs = torch.stack(
            [published.tokens(prompt, thoughts, new).cpu() for prompt in prompts[:CHECKED_ROWS]]
        )
        found[PUBLISHED] = require_same_tokens(PUBLISHED, theirs, reference, gaps)
    return found
