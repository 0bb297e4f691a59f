"""Prompts with their thoughts as input embeddings, so that a serving engine can write the answers.

Thoughts end before the first word of the answer, so all that an engine needs of us is what the base model is fed up to there:
the embeddings of the prompt, the delimiters and the scaled states, in order and without padding. An engine that takes input
embeddings (vLLM's `prompt_embeds`) goes on from them with the plain base model, at its own speed and batch size, and greedily
it writes what `generate` writes. Embeddings are what the embedding module puts out: with Gemma they are scaled already.

The cost is the thoughts' own passes, and D numbers a position on disk: 8 KB at width 4096 in bf16. Rejected: handing over the
cache (every engine lays its keys and values out in its own way), pickled tensors (whoever reads a pickle runs it). Mixed decoding
feeds a state with every word, which an engine cannot: it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentthought.errors import ConfigError, UnsupportedError
from latentthought.model.inputs import left_padded
from latentthought.model.policy import Thoughts

if TYPE_CHECKING:
    from latentthought.model.modeling import LatentThoughtForCausalLM

INDEX, ROWS = "index.json", "prompts.jsonl"
FORMAT, VERSION = "latentthought.prompt-embeds", 1
_SHARD_BYTES = 512 * 2**20


@dataclass(frozen=True)
class EmbeddedPrompt:
    """What the base model is fed before the first word of an answer.

    embeds: (T, D): prompt, start delimiter, thoughts, end delimiter; without thoughts the prompt alone.
    token_ids: T ids; at a thought the placeholder's, None where the model has none.
    thoughts: how many there are. first_thought: the position of the first one, None without any.
    """

    embeds: Tensor
    token_ids: list[int | None]
    thoughts: int
    first_thought: int | None


@torch.no_grad()
def embed_prompts(
    model: LatentThoughtForCausalLM,
    prompts: Sequence[Sequence[int]],
    thoughts: Thoughts = None,
    *,
    batch_size: int = 16,
) -> Iterator[EmbeddedPrompt]:
    """Think about each prompt; what `generate` would feed the base before the first word, prompt by prompt and in order.

    Args:
        prompts: token ids of each, as `generate` would get them.
        thoughts: as in `generate`: an int, one a prompt, a `ThoughtPolicy`, "auto"; None is what the model was trained with.
        batch_size: prompts that think together; no more than these are in memory.

    Raises: UnsupportedError for a model whose own way to answer is mixed decoding; ConfigError for bad counts and empty prompts.
    """
    refuse_mixing(model, thoughts)
    if batch_size < 1:
        raise ConfigError(f"batch_size: at least 1 (got {batch_size})")
    if isinstance(thoughts, Tensor):
        thoughts = thoughts.tolist()
    each = list(thoughts) if isinstance(thoughts, Sequence) and not isinstance(thoughts, str) else None
    if each is not None and len(each) != len(prompts):
        raise ConfigError(f"thoughts: {len(each)} counts for {len(prompts)} prompts")
    if empty := [number for number, prompt in enumerate(prompts) if not len(prompt)]:
        raise ConfigError(f"prompts: number {empty[0]} (from 0) has no token")
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        yield from _batch(model, prompts[part], thoughts if each is None else each[part])


def refuse_mixing(model: LatentThoughtForCausalLM, thoughts: Thoughts) -> None:
    """Raise where `generate` with these thoughts would mix states into the words that it writes."""
    if thoughts is None and model.thought.mix_ratio > 0:
        raise UnsupportedError(
            f"prompt embeddings: this model answers by mixed decoding (mix_ratio {model.thought.mix_ratio:g}), a state blended "
            "into every word it writes, which no serving engine does; say thoughts=N (--thoughts N) for thoughts before the "
            "answer, or 0 for words alone"
        )


def _batch(
    model: LatentThoughtForCausalLM, prompts: Sequence[Sequence[int]], thoughts: Any
) -> Iterator[EmbeddedPrompt]:
    ids, mask = left_padded(prompts)
    # `think` takes None for "think all the same", and `generate` for "as trained", which may be not at all
    wanted = model.thought.thoughts if thoughts is None else thoughts
    output = model.think(ids.to(model.device), mask.to(model.device), wanted)
    start, end, placeholder = (
        model.thought.start_token_id,
        model.thought.end_token_id,
        model.thought.thought_token_id,
    )
    for row, (prompt, count) in enumerate(zip(prompts, output.counts.tolist(), strict=True)):
        tokens: list[int | None] = [int(token) for token in prompt]
        first = None
        if count:
            tokens += [] if start is None else [start]
            first = len(tokens)
            tokens += [placeholder] * count + ([] if end is None else [end])
        embeds = output.inputs_embeds[row][output.attention_mask[row].bool()].cpu()
        assert len(embeds) == len(tokens)
        yield EmbeddedPrompt(embeds, tokens, count, first)


def write_prompt_embeds(
    rows: Iterable[EmbeddedPrompt],
    folder: Path | str,
    *,
    labels: Sequence[dict[str, Any]] | None = None,
    about: dict[str, Any] | None = None,
    shard_bytes: int = _SHARD_BYTES,
) -> int:
    """Write prompts into a folder, as they come; how many there were.

    prompts-00000.safetensors, ...   the tensors of some prompts each, "0", "1", ... by place in the input
    prompts.jsonl                    a line a prompt: its label, file, tensor, length, thoughts, first_thought, token_ids
    index.json                       format, version, `about`, dtype, width, prompts, shards; written last

    Args:
        labels: what else the line of a prompt says, such as id and question.
        shard_bytes: a shard is closed when it holds so much; one shard is all that is in memory.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shard: dict[str, Tensor] = {}
    shards: list[str] = []
    held = written = 0
    kind: dict[str, Any] = {}

    def close() -> None:
        nonlocal held
        if shard:
            shards.append(_shard_name(len(shards)))
            save_file(shard, folder / shards[-1], {"format": "pt"})
        shard.clear()
        held = 0

    with (folder / ROWS).open("w", encoding="utf-8") as lines:
        for row in rows:
            shard[str(written)] = row.embeds.contiguous()
            held += row.embeds.nbytes
            kind = kind or {
                "dtype": str(row.embeds.dtype).removeprefix("torch."),
                "width": row.embeds.shape[1],
            }
            line = {
                **(labels[written] if labels is not None else {}),
                "file": _shard_name(len(shards)),
                "tensor": str(written),
                "length": len(row.embeds),
                "thoughts": row.thoughts,
                "first_thought": row.first_thought,
                "token_ids": row.token_ids,
            }
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            written += 1
            if held >= shard_bytes:
                close()
    close()
    index = {
        "format": FORMAT,
        "version": VERSION,
        **(about or {}),
        **kind,
        "prompts": written,
        "shards": shards,
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return written


def _shard_name(number: int) -> str:
    return f"prompts-{number:05d}.safetensors"
