"""Many samples of one question: the prompt read once and thought about once, against one batch of copies of it.

Floor, for k samples of a prompt of T tokens, S thoughts and N new tokens: T + S - 1 positions of one row, and from there N passes
over one position of k rows. In operations 2 (P + V D) a position of those passes and 2 P a position before them, plus
attention; in bytes all W = P weights once for the prompt (they are read for hundreds of positions at a time), P + V D for each of
the N passes, and k caches of 8 L D t bytes at length t. A batch of copies reads the prompt k times: 2 k P (T + S) operations
instead of 2 P (T + S), which is all but a few seconds of its time at T = 512.

The floor's side has S tokens of text where ours has thoughts, read at once with the prompt, and goes on with the base model's own
`generate` from k copies of that cache. It runs as many positions of all rows together as ours, which is checked; ours has to make
S - 1 passes more for them, of one row each (of k rows where thoughts are varied from sample to sample).

Before anything is timed every side draws from the one likeliest word alone (`top_k=1`), and all k rows of each have to write
what a loop without a cache writes; with varied thoughts, what copies write under the same draws, and think the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks import rivals, workload
from benchmarks.agreement import TOLERANCE, Disagreement, counted, require_same_tokens
from benchmarks.generate import base_tokens
from benchmarks.report import Floor, Report, Row, Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, measure
from benchmarks.workload import Sizes
from latentthought.model.modeling import LatentThoughtForCausalLM
from latentthought.model.policy import ThoughtSampling

ROUNDS = 3
CHECKED_TOKENS = 8
MOST = 0.6
SAMPLED = {"do_sample": True, "temperature": 0.7, "top_k": 50}
LIKELIEST = {"do_sample": True, "top_k": 1}
FLOOR, OURS, VARIED = (
    "base generate, prompt read once",
    "latentthought generate",
    "latentthought, varied thoughts",
)
COPIES, TEXT, OURS_TEXT = "batch of copies", "base generate, samples", "latentthought, in words"


def floor_of(sizes: Sizes) -> Floor:
    """Operations and bytes of one prompt and N passes of k rows; see the module."""
    head, read = sizes.vocabulary * sizes.width, sizes.long_prompt + sizes.thoughts - 1
    lengths = range(read + 1, read + 1 + sizes.long_new_tokens)
    operations = 2 * sizes.parameters * read + 2 * sizes.layers * sizes.width * read**2
    operations += sum(
        sizes.samples * (2 * (sizes.parameters + head) + 4 * sizes.layers * sizes.width * t) for t in lengths
    )
    moved = 4 * sizes.parameters + 4 * sizes.long_new_tokens * (sizes.parameters + head)
    return Floor(operations, moved + sum(8 * sizes.samples * sizes.layers * sizes.width * t for t in lengths))


def run(settings: Settings) -> Report:
    """Check that the sides agree, then time them."""
    sizes, device = settings.sizes, settings.device
    base = workload.make_base(sizes, device, settings.seed, strength=workload.LIVELY).eval()
    model = workload.make_model(base)
    prompt = workload.make_prompt(sizes, device, settings.seed)
    settings.progress("samples: comparing tokens")
    agreement = check(model, prompt, sizes)
    if settings.dtype != torch.float32:
        base.to(settings.dtype)
    k, new = sizes.samples, sizes.long_new_tokens
    works = sides_of(model, prompt, sizes)
    notes = {
        FLOOR: ("floor", f"{sizes.thoughts} tokens for thoughts"),
        OURS: ("ours", f"num_return_sequences={k}, {sizes.thoughts} thoughts"),
        VARIED: ("ours", "noise of a tenth"),
        COPIES: ("rival", f"{k} rows, {sizes.thoughts} thoughts"),
        TEXT: ("text", f"num_return_sequences={k}, {sizes.thoughts} tokens for thoughts"),
        OURS_TEXT: ("text", "the same"),
    }
    sides = [
        Side(name, role, partial(works[name], new_tokens=new, **SAMPLED), note)
        for name, (role, note) in notes.items()
    ]
    timings = measure(
        sides,
        device,
        settings.rounds_or(ROUNDS),
        progress=lambda text: settings.progress(f"samples: {text}"),
    )
    return Report(
        name="samples",
        title=f"{k} samples of one prompt of {sizes.long_prompt} tokens, {sizes.thoughts} thoughts + {new} tokens",
        floor=floor_of(sizes),
        rows=Row.of(sides, timings, agreement, unit="answer tokens/s", units=k * new),
        targets=[
            Target.at_most(name, "time over the batch of copies", timings[name].ratio(timings[COPIES]), MOST)
            for name in (OURS, VARIED)
        ],
    )


def sides_of(model: LatentThoughtForCausalLM, prompt: Tensor, sizes: Sizes) -> dict[str, Any]:
    """Side -> (k, N) new tokens, from `new_tokens` and how to search."""
    longer = torch.cat([prompt, prompt[:, : sizes.thoughts]], dim=1)
    copies, k = prompt.repeat(sizes.samples, 1), sizes.samples
    varied = {"thought_sampling": ThoughtSampling(noise=0.1, seed=0)}
    return {
        FLOOR: partial(tokens_from_cache, model, longer, k),
        OURS: partial(our_tokens, model, prompt, sizes.thoughts, num_return_sequences=k),
        VARIED: partial(our_tokens, model, prompt, sizes.thoughts, num_return_sequences=k, **varied),
        COPIES: partial(our_tokens, model, copies, sizes.thoughts),
        TEXT: partial(base_tokens, model, longer, num_return_sequences=k),
        OURS_TEXT: partial(our_tokens, model, longer, 0, num_return_sequences=k),
    }


def our_tokens(
    model: LatentThoughtForCausalLM, prompts: Tensor, thoughts: int, new_tokens: int, **how: Any
) -> Tensor:
    """(rows, N) new tokens after thoughts, from the very call whose thoughts are compared."""
    return our_output(model, prompts, thoughts, new_tokens, **how).sequences[:, prompts.shape[1] :]


def our_output(
    model: LatentThoughtForCausalLM, prompts: Tensor, thoughts: int, new_tokens: int, **how: Any
) -> Any:
    """What `generate` returns, with its thoughts."""
    return model.generate(
        prompts,
        torch.ones_like(prompts),
        thoughts=thoughts,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        return_dict_in_generate=True,
        **how,
    )


@torch.no_grad()
def tokens_from_cache(
    model: LatentThoughtForCausalLM, prompt: Tensor, copies: int, new_tokens: int, **how: Any
) -> Tensor:
    """(copies, N) new tokens of the base model's own `generate`, from copies of the cache of one prompt."""
    cache = DynamicCache(config=model.base.config)
    model.base.base_model(prompt[:, :-1], past_key_values=cache)
    cache.batch_repeat_interleave(copies)
    return base_tokens(model, prompt.repeat(copies, 1), new_tokens, past_key_values=cache, **how)


def uncached_tokens(
    model: LatentThoughtForCausalLM, prompt: Tensor, new_tokens: int
) -> tuple[Tensor, Tensor]:
    """Greedy tokens (N,) after one prompt (1, T), read again for every token, and by how much each led the next best (N,)."""
    output = model.base.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
        use_cache=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return output.sequences[0, prompt.shape[1] :].cpu(), lead_of(output)[0].cpu()


def lead_of(output: Any) -> Tensor:
    """(rows, N): by how much the best logit led the next, for each new token."""
    best = torch.stack(output.logits, dim=1).float().topk(2).values
    return best[..., 0] - best[..., 1]


def check(model: LatentThoughtForCausalLM, prompt: Tensor, sizes: Sizes) -> dict[str, str]:
    """Side -> what the comparison found. Disagreement when sides that should agree do not."""
    new, works = min(CHECKED_TOKENS, sizes.long_new_tokens), sides_of(model, prompt, sizes)
    tokens, work = {}, {}
    for name, side in works.items():
        with counted(model.base.base_model) as work[name]:
            tokens[name] = side(new_tokens=new, **LIKELIEST).cpu()
    for name in (OURS, OURS_TEXT):
        if work[name].all_positions != work[FLOOR].all_positions:
            raise Disagreement(
                f"{name} runs {work[name].all_positions} positions of all rows, the floor {work[FLOOR].all_positions}"
            )
    found = {FLOOR: f"same: {work[FLOOR].all_positions} positions of all rows"}
    thought = rivals.naive_tokens(model.base, prompt[0], workload.placeholder(sizes), sizes.thoughts, new)
    text = uncached_tokens(model, torch.cat([prompt, prompt[:, : sizes.thoughts]], dim=1), new)
    for (reference, gaps), names in ((thought, (OURS, COPIES)), (text, (FLOOR, TEXT, OURS_TEXT))):
        reference, gaps = (part.expand(sizes.samples, -1) for part in (reference, gaps))
        for name in names:
            found.setdefault(name, require_same_tokens(name, tokens[name], reference, gaps))
    found[VARIED] = check_varied(model, prompt, sizes, new)
    return found


def check_varied(model: LatentThoughtForCausalLM, prompt: Tensor, sizes: Sizes, new: int) -> str:
    """Varied thoughts and what is written after them, against copies that each read the prompt, under the same draws."""
    how = {**LIKELIEST, "output_logits": True, "thought_sampling": ThoughtSampling(noise=0.1, seed=0)}
    shared = our_output(model, prompt, sizes.thoughts, new, num_return_sequences=sizes.samples, **how)
    copies = our_output(model, prompt.repeat(sizes.samples, 1), sizes.thoughts, new, **how)
    size = float(copies.thoughts.abs().max())
    difference = float((shared.thoughts - copies.thoughts).abs().max()) / size
    if not difference <= TOLERANCE:
        raise Disagreement(f"{VARIED}: thoughts differ by {difference:.2e} (tolerance {TOLERANCE:g})")
    if float((copies.thoughts[0] - copies.thoughts[1]).abs().max()) / size <= TOLERANCE:
        raise Disagreement(f"{VARIED}: samples think alike")
    width = prompt.shape[1]
    return require_same_tokens(
        VARIED, shared.sequences[:, width:], copies.sequences[:, width:], lead_of(copies)
    )
