"""A task of a few rows, a tokenizer for it, a tiny random latent model, and a stand-in that answers as told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import ModelOutput

from latentthought import LatentThoughtForCausalLM, ThoughtConfig
from latentthought.data.encoding import Encoder, FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.evaluation import TaskConfig


@pytest.fixture(scope="session")
def rows() -> ExampleSet:
    """Ten sums of different lengths; the answers are 0 to 9."""
    questions = [" + ".join(["1"] * n) + f" + {9 - n}" if n else "0" for n in range(10)]
    made = [
        Example(
            f"sum/{n}",
            f"{question} - {9 - n if n else 0}",
            (),
            str(n),
            meta={"subject": "odd" if n % 2 else "even", "level": str(n // 5)},
        )
        for n, question in enumerate(questions)
    ]
    return ExampleSet(made, origin="sums")


@pytest.fixture(scope="session")
def task() -> TaskConfig:
    return TaskConfig.parse(
        {
            "name": "sums",
            "version": 3,
            "data": {"source": "gsm8k", "split": "test"},
            "groups": ["subject", "level"],
            "max_new_tokens": 6,
        }
    )


@pytest.fixture(scope="session")
def tokenizer(rows: ExampleSet) -> Any:
    texts = [f"{row.question}\n### {row.answer}" for row in rows]
    return train_tokenizer(TokenizerConfig(), texts)


def small_model(tokenizer: Any) -> LatentThoughtForCausalLM:
    """A random two-layer Llama that thinks two thoughts."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    base = AutoModelForCausalLM.from_config(config)
    model = LatentThoughtForCausalLM.from_base(base, ThoughtConfig(thoughts=2), tokenizer=tokenizer)
    return model.eval()


@pytest.fixture
def latent_model(tokenizer: Any) -> LatentThoughtForCausalLM:
    return small_model(tokenizer)


class Scripted:
    """Answers each prompt as told, by the prompt's text, and remembers how it was called. A plain model: it has no `think`."""

    def __init__(self, tokenizer: Any, answers: dict[str, str]):
        self.tokenizer = tokenizer
        self.calls: list[dict[str, Any]] = []
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(name_or_path="", max_position_embeddings=None, prompt_format=None)
        self.most_rows: int | None = None
        self.answers = answers

    def generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **arguments: Any
    ) -> ModelOutput:
        samples = arguments.get("num_return_sequences", 1)
        input_ids, attention_mask = (
            part.repeat_interleave(samples, 0) for part in (input_ids, attention_mask)
        )
        self.calls.append({"rows": len(input_ids), "mask": attention_mask, **arguments})
        if self.most_rows is not None and len(input_ids) > self.most_rows:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        new = []
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            prompt = self.tokenizer.decode(ids[mask.bool()], skip_special_tokens=True).strip()
            answer = self.tokenizer(self.answers[prompt], add_special_tokens=False)["input_ids"]
            new.append([*answer, self.tokenizer.eos_token_id])
        width = max(map(len, new))
        pad = arguments["pad_token_id"]
        filled = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in new])
        return ModelOutput(sequences=torch.cat([input_ids, filled], dim=1))


class ScriptedThinker(Scripted):
    """The same, as a model that thinks."""

    thought = ThoughtConfig(thoughts=2, thought_token_id=0)

    def think(self) -> None:
        """Its presence is what makes a model latent."""

    def generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **arguments: Any
    ) -> ModelOutput:
        output = super().generate(input_ids, attention_mask, **arguments)
        counts = torch.full((len(output.sequences),), 2 if arguments["control"] != "no-thought" else 0)
        return ModelOutput(sequences=output.sequences, thought_counts=counts)


@pytest.fixture
def right_answers(rows: ExampleSet) -> dict[str, str]:
    """Question -> completion; all right but three: one wrong, one without an answer, one empty."""
    answers = {row.question: f"### {row.answer}" for row in rows}
    answers[rows[3].question] = "### 4"
    answers[rows[4].question] = "+ - +"
    answers[rows[5].question] = ""
    return answers


@pytest.fixture
def scripted(tokenizer: Any, right_answers: dict[str, str]) -> Scripted:
    return Scripted(tokenizer, right_answers)


@pytest.fixture
def thinker(tokenizer: Any, right_answers: dict[str, str]) -> ScriptedThinker:
    return ScriptedThinker(tokenizer, right_answers)


@pytest.fixture
def make_thinker(tokenizer: Any, right_answers: dict[str, str]) -> Callable[[], ScriptedThinker]:
    """Stand-ins for processes that load a model each."""
    return lambda: ScriptedThinker(tokenizer, right_answers)


@pytest.fixture
def encoder(tokenizer: Any) -> Encoder:
    return Encoder(tokenizer, FormatConfig(), spans=False)


@pytest.fixture
def wrapped(latent_model: LatentThoughtForCausalLM, tokenizer: Any) -> Any:
    from latentthought.evaluation.harness import LatentThoughtLM

    return LatentThoughtLM(latent_model, tokenizer=tokenizer, batch_size=3)
