"""Examples in front of a question: how they are written, where they come from, and where a completion ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentthought.data.encoding import Encoder, FormatConfig
from latentthought.data.example import Example
from latentthought.data.sources import SourceConfig
from latentthought.errors import ConfigError, MissingFileError, NotFoundError
from latentthought.evaluation import TaskConfig, evaluate
from latentthought.evaluation.few_shot import FewShotConfig, Prompter
from latentthought.evaluation.models import cut

SHOTS = [
    Example("a", "1 + 1 - 0", ("1 + 1",), "2"),
    Example("b", "1 + 2 - 0", (), "3"),
    Example("c", "9 - 0", (), "9"),
]
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def prompt(tokenizer: Any, form: FormatConfig, config: FewShotConfig, row: Example) -> str:
    return tokenizer.decode(Prompter(tokenizer, form, config, SHOTS).ids(row))


@pytest.fixture
def byte_tokenizer() -> Any:
    """One that writes back exactly what it read."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(["<end>", *alphabet])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", chat_template=CHAT)


def test_plain_examples_stand_before_the_question(byte_tokenizer: Any) -> None:
    form = FormatConfig(prompt="Q: {question}\nA: {{}}\n", answer="#### {answer}")
    row = Example("row", "0 {x}", (), "0")
    found = prompt(byte_tokenizer, form, FewShotConfig(count=2), row)
    assert found == ("Q: 1 + 1 - 0\nA: {}\n1 + 1\n#### 2\n\nQ: 1 + 2 - 0\nA: {}\n#### 3\n\nQ: 0 {x}\nA: {}\n")
    bare = prompt(byte_tokenizer, form, FewShotConfig(count=1, steps=False, separator="\n---\n"), row)
    assert bare == "Q: 1 + 1 - 0\nA: {}\n#### 2\n---\nQ: 0 {x}\nA: {}\n"
    assert prompt(byte_tokenizer, form, FewShotConfig(), row) == "Q: 0 {x}\nA: {}\n"


def test_a_row_is_never_its_own_example(byte_tokenizer: Any) -> None:
    form = FormatConfig(prompt="{question}=")
    found = prompt(byte_tokenizer, form, FewShotConfig(count=2, separator=";"), SHOTS[0])
    assert found == "1 + 2 - 0=### 3;9 - 0=### 9;1 + 1 - 0="


def test_chat_examples_are_turns(byte_tokenizer: Any) -> None:
    form = FormatConfig(prompt="{question}?", chat=True, system="Add.")
    found = prompt(byte_tokenizer, form, FewShotConfig(count=1), Example("row", "5", (), "5"))
    assert found == "<system>Add.<user>1 + 1 - 0?<assistant>1 + 1\n### 2<user>5?<assistant>"
    turns = (
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    )
    own = Example("row", "5", (), "5", messages=(*turns, {"role": "user", "content": "-"}))
    found = prompt(byte_tokenizer, form.replace(system=None), FewShotConfig(count=1), own)
    assert found == "<system>S<user>1 + 1 - 0?<assistant>1 + 1\n### 2<user>U<assistant>A<user>5?<assistant>"


def test_drawn_by_seed_from_another_split() -> None:
    gsm8k, hops = SourceConfig(source="gsm8k", split="test"), SourceConfig(source="hops", split="test")
    drawn = FewShotConfig(count=3, seed=1).draw(gsm8k, smoke=True)
    assert len(drawn) == 4, "a spare for the row that is among them"
    assert drawn == FewShotConfig(count=3, seed=1).draw(gsm8k, smoke=True)
    assert drawn != FewShotConfig(count=3, seed=2).draw(gsm8k, smoke=True)
    assert all(example.id.startswith("hops/train/") for example in FewShotConfig(count=2).draw(hops))
    with pytest.raises(
        ConfigError,
        match=r"64 examples, and one to spare, are wanted; gsm8k smoke rows has \d+",
    ):
        FewShotConfig(count=64).draw(gsm8k, smoke=True)


def test_drawn_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(json.dumps({"question": f"q{n}", "answer": str(n)}) + "\n" for n in range(3)))
    drawn = FewShotConfig(count=2, path=str(file)).draw(SourceConfig(source="file", path="rows.jsonl"))
    assert {example.question for example in drawn} == {"q0", "q1", "q2"}


def test_no_rows_to_draw_from() -> None:
    """MATH-500 has test rows only."""
    data = SourceConfig(source="math500", split="test")
    with pytest.raises(
        NotFoundError, match=r"^few_shot: .* no train rows .* give a local file: few_shot.path=FILE"
    ):
        FewShotConfig(count=4).draw(data)
    with pytest.raises(MissingFileError, match=r"^few_shot: few_shot.path: no such file: gone.jsonl"):
        FewShotConfig(count=4, path="gone.jsonl").draw(data)


def test_written_examples(task: TaskConfig) -> None:
    shots = [{"question": "1 + 1", "answer": "2", "steps": ["two"]}, {"question": "2 + 2", "answer": "4"}]
    found = task.replace(few_shot={"examples": shots}).few_shot
    assert [(e.question, e.steps, e.answer) for e in found.draw(task.data)] == [
        ("1 + 1", ("two",), "2"),
        ("2 + 2", (), "4"),
    ]
    assert len(task.replace(few_shot={"examples": shots, "count": 1}).few_shot.draw(task.data)) == 1
    with pytest.raises(ConfigError, match="count is 3, and only 2 examples are written"):
        task.replace(few_shot={"examples": shots, "count": 3})


def test_where_a_completion_ends(task: TaskConfig) -> None:
    assert cut("a\n\nb", ("\n\n",)) == "a"
    assert cut("\n\na\n\nb", ("\n\n", "a")) == "\n\n", "not at what comes before the first word"
    assert cut("ab", ("c",)) == "ab"
    shown = task.replace(few_shot={"count": 2, "separator": "\n---\n"})
    assert shown.stops(FormatConfig()) == ("\n---\n",)
    assert shown.stops(FormatConfig(chat=True)) == ()
    assert shown.replace(stop=[]).stops(FormatConfig()) == ()
    assert task.replace(stop=["Q:"]).stops(FormatConfig()) == ("Q:",)
    assert task.stops(FormatConfig()) == ()
    with pytest.raises(ConfigError, match="stop: an empty text"):
        task.replace(stop=[""])


def test_evaluated_with_examples(
    scripted: Any, task: TaskConfig, tokenizer: Any, rows: Any, tmp_path: Path
) -> None:
    """The stand-in sees the examples, and what it writes behind the separator is not judged."""
    shots = [{"question": "1 + 1 - 0", "answer": "2"}]
    shown = task.replace(
        few_shot={"examples": shots, "separator": " - - "}, default_format={"prompt": "{question} ="}
    )
    encoder = Encoder(tokenizer, FormatConfig(prompt="1 + 1 - 0 =### 2 - - {question} ="), spans=False)
    prompts = [tokenizer.decode(encoder.prompt_ids(row), skip_special_tokens=True).strip() for row in rows]
    scripted.answers = {
        text: f"### {row.answer} - - 1 + 1 = ### 1" for text, row in zip(prompts, rows, strict=True)
    }
    found = evaluate(scripted, shown, tokenizer=tokenizer, data=rows, progress=False, output=tmp_path)
    assert all("stopping_criteria" in call for call in scripted.calls)
    assert found.accuracy.value == 1.0
    assert found.settings["few_shot"] == ["shot/0"]
    assert found.settings["stop"] == [" - - "]


def test_chat_or_plain_by_the_task(task: TaskConfig) -> None:
    assert task.replace(chat=True).format_for(object()).chat
    assert not task.replace(chat=False, default_format={"chat": True}).format_for(object()).chat
    assert task.replace(default_format={"chat": True}).format_for(object()).chat
