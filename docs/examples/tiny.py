"""What the examples share: rows, a tokenizer and tiny models, so that they run anywhere in seconds.

In a script of your own, rows come from `load_examples` or `load_recipe`, and the model from
`LatentThoughtForCausalLM.from_base("openai-community/gpt2", ThoughtConfig(), tokenizer)`.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from latentthought import Curriculum, Example, LatentThoughtForCausalLM, ThoughtConfig
from latentthought.data.encoding import FormatConfig
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.model.scratch import ScratchConfig

FORMAT = FormatConfig(prompt="{question}\n", step="{step}\n", answer="### {answer}")
EXAMPLES = [
    Example(
        f"{a}-{b}",
        f"{a} + {b} + 1 = ?",
        (f"{a} + {b} = {a + b}", f"{a + b} + 1 = {a + b + 1}"),
        f"{a + b + 1}",
    )
    for a in range(8)
    for b in range(8)
]
CURRICULUM = Curriculum.parse({"method": "latent", "max_latent_steps": 2, "each": {"epochs": 2}})


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """Trained on the spot on everything that the rows hold."""
    pieces = [FORMAT.pieces(example) for example in EXAMPLES]
    return train_tokenizer(
        TokenizerConfig(), [text for row in pieces for text in (row.prompt, *row.steps, row.answer)]
    )


def tiny_model(
    tokenizer: PreTrainedTokenizerBase, seed: int = 0, width: int = 32
) -> LatentThoughtForCausalLM:
    """Two blocks with random weights; the thought tokens that the tokenizer lacks are added."""
    torch.manual_seed(seed)
    base = ScratchConfig(layers=2, width=width, heads=4, max_positions=64).build(tokenizer)
    return LatentThoughtForCausalLM.from_base(base, ThoughtConfig(), tokenizer)


def tiny_arguments(folder: str) -> TrainingArguments:
    """transformers' own arguments; stages, logging and saving are the trainer's."""
    return TrainingArguments(
        folder,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
