"""Prompts as input embeddings: plain transformers goes on from them as `generate` does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from latentthought import EmbeddedPrompt, LatentThoughtForCausalLM, embed_prompts, write_prompt_embeds
from latentthought.errors import ConfigError, UnsupportedError
from latentthought.model.policy import ThoughtPolicy
from tests.families import VOCABULARY, tiny_base
from tests.generation.naive import (
    END,
    MATRIX,
    PLACEHOLDER,
    START,
    TOLERANCE,
    naive_think,
    prompts,
    rows_of,
    thinker,
)

NEW = 7
SETTLED = ThoughtPolicy(kind="settled", maximum=6, threshold=0.6)


def lists() -> list[list[int]]:
    return [row[0].tolist() for row in rows_of(*prompts())]


@pytest.mark.parametrize("case", MATRIX, ids=str)
@pytest.mark.parametrize("thoughts", [3, 0, [3, 0, 1], SETTLED], ids=["even", "none", "ragged", "adaptive"])
def test_plain_transformers_writes_what_generate_writes(case, thoughts, tmp_path: Path) -> None:
    """The base on disk knows nothing of thoughts; each row goes in alone, as an engine takes it, and rows of a batch differ in
    length."""
    model = thinker(case)
    model.to_base().save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, mask = prompts()
    expected = model.generate(ids, mask, thoughts=thoughts, max_new_tokens=NEW, return_dict_in_generate=True)
    rows = list(embed_prompts(model, lists(), thoughts, batch_size=2))
    assert [row.thoughts for row in rows] == expected.thought_counts.tolist()
    for row, sequence in zip(rows, expected.sequences, strict=True):
        written = plain.generate(
            inputs_embeds=row.embeds[None],
            attention_mask=torch.ones(1, len(row.embeds), dtype=torch.long),
            max_new_tokens=NEW,
        )
        assert written[0].tolist() == sequence[ids.shape[1] :].tolist()


def test_counts_of_an_adaptive_policy_differ_by_prompt() -> None:
    """Else "adaptive" above would say no more than "even"."""
    found = {row.thoughts for case in MATRIX[:3] for row in embed_prompts(thinker(case), lists(), SETTLED)}
    assert len(found) > 1


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_rows_are_the_inputs_of_a_naive_loop(family: str) -> None:
    model = thinker((family, True, "eager"))
    for row, prompt in zip(embed_prompts(model, lists(), 2), rows_of(*prompts()), strict=True):
        embeds, _ = naive_think(model, prompt, 2)
        torch.testing.assert_close(row.embeds, embeds[0], **TOLERANCE)
        assert row.token_ids == [*prompt[0].tolist(), START, PLACEHOLDER, PLACEHOLDER, END]
        assert row.first_thought == prompt.shape[1] + 1


def test_gemma_embeddings_are_scaled() -> None:
    """sqrt(32) is inside the embedding module; an engine must not apply it again."""
    model = thinker(("gemma3_text", True, "eager"))
    [row] = embed_prompts(model, [[9, 10]], 0)
    table = model.base.get_input_embeddings().weight[[9, 10]]
    torch.testing.assert_close(row.embeds, table * 32**0.5, **TOLERANCE)


def test_a_model_without_delimiters_and_placeholder() -> None:
    model = LatentThoughtForCausalLM.from_base(tiny_base("llama"))
    [row] = embed_prompts(model, [[9, 10]], 2)
    assert row.token_ids == [9, 10, None, None]
    assert row.embeds.shape == (4, 32)
    [text] = embed_prompts(model, [[9, 10]])
    assert (text.thoughts, text.first_thought, len(text.embeds)) == (0, None, 2), "as trained: not at all"


def test_pause_tokens_and_types() -> None:
    model = thinker(fill="pause").to(torch.bfloat16)
    [row] = embed_prompts(model, [[9, 10]], 2)
    placeholder = model.base.get_input_embeddings().weight[PLACEHOLDER]
    assert torch.equal(row.embeds[3:5], placeholder.expand(2, -1))
    assert row.embeds.dtype == torch.bfloat16


def test_mixed_decoding_is_refused() -> None:
    model = thinker(mix_ratio=0.3)
    with pytest.raises(UnsupportedError, match=r"mix_ratio 0\.3.*--thoughts N"):
        next(embed_prompts(model, [[9]]))
    assert next(embed_prompts(model, [[9]], 2)).thoughts == 2, "asked for thoughts, it has them"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[9], []], 1), r"number 1 \(from 0\) has no token"),
        (([[9], [8]], [1, 2, 3]), "3 counts for 2 prompts"),
        (([[9]], "many"), "many"),
        (([[9]], -1), "-1"),
    ],
)
def test_wrong_arguments(arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(embed_prompts(thinker(), *arguments))


def test_shards_hold_what_was_made(tmp_path: Path) -> None:
    """Seven prompts of 1 to 7 tokens and 2 thoughts, at width 32 in fp32: 128 bytes a position, 4 positions more than tokens."""
    model = thinker()
    many = [torch.randint(8, VOCABULARY, (length,)).tolist() for length in range(1, 8)]
    made = list(embed_prompts(model, many, 2))
    labels = [{"id": f"row {number}"} for number in range(7)]
    assert write_prompt_embeds(made, tmp_path, labels=labels, about={"from": "x"}, shard_bytes=1500) == 7
    index = json.loads((tmp_path / "index.json").read_text())
    # 640 + 768 + 896 bytes, then 1024 + 1152, then 1280 + 1408
    assert index == {
        "format": "latentthought.prompt-embeds",
        "version": 1,
        "from": "x",
        "dtype": "float32",
        "width": 32,
        "prompts": 7,
        "shards": [f"prompts-0000{number}.safetensors" for number in range(3)],
    }
    shards = {name: load_file(tmp_path / name) for name in index["shards"]}
    assert [len(shard) for shard in shards.values()] == [3, 2, 2]
    for row, text in zip(made, (tmp_path / "prompts.jsonl").read_text().splitlines(), strict=True):
        line = json.loads(text)
        assert torch.equal(shards[line["file"]][line["tensor"]], row.embeds)
        assert line["id"] == f"row {line['tensor']}"
        assert (line["length"], line["token_ids"]) == (len(row.embeds), row.token_ids)


def test_no_more_than_a_batch_is_made_ahead(tmp_path: Path) -> None:
    """What is written lags behind what is thought by a batch at most: the prompts never are in memory together."""
    model, calls = thinker(), 0
    think = model.think

    def counting(*arguments, **keywords):
        nonlocal calls
        calls += 1
        return think(*arguments, **keywords)

    model.think = counting

    def watched() -> Iterator[EmbeddedPrompt]:
        for number, row in enumerate(embed_prompts(model, [[9, 10]] * 8, 1, batch_size=2)):
            assert calls == number // 2 + 1
            yield row

    write_prompt_embeds(watched(), tmp_path)
    assert calls == 4
