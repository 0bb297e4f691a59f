"""Think and generate: fixed, adaptive and mixed thoughts, in a batch, and what each thought is closest to.

    python docs/examples/think_and_generate.py [MODEL FOLDER]

Without a folder an untrained model thinks, and its thoughts are noise.
"""

from __future__ import annotations

import sys

from tiny import EXAMPLES, FORMAT, tiny_model, tiny_tokenizer
from transformers import AutoTokenizer

from latentthought import LatentThoughtForCausalLM, ThoughtPolicy


def main(folder: str | None) -> None:
    if folder is None:
        tokenizer = tiny_tokenizer()
        model = tiny_model(tokenizer).eval()
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = LatentThoughtForCausalLM.from_pretrained(folder).eval()
    tokenizer.padding_side = "left"
    prompts = [FORMAT.prompt.format(question=example.question) for example in EXAMPLES[:3]]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]

    thought = model.think(ids, mask, thoughts=2, top_k=3)  # states (B, S, D), and a cache to go on from
    for number, words in enumerate(thought.decoded.words(tokenizer, thought.counts)[0], start=1):
        print(f"thought {number}: " + ", ".join(f"{text!r} {chance:.2f}" for text, chance in words))

    fixed = model.generate(ids, mask, thoughts=2, max_new_tokens=8)  # prompt + new tokens, like transformers
    print("two thoughts:", tokenizer.batch_decode(fixed[:, ids.shape[1] :], skip_special_tokens=True))

    policy = ThoughtPolicy(kind="settled", maximum=6, threshold=0.9)
    adaptive = model.generate(ids, mask, thoughts=policy, max_new_tokens=8, return_dict_in_generate=True)
    print("until they settle:", adaptive.thought_counts.tolist(), "thoughts")

    mixed = model.generate(ids, mask, mix_ratio=0.3, max_new_tokens=8)  # a state blended into every word
    print("mixed:", tokenizer.batch_decode(mixed[:, ids.shape[1] :], skip_special_tokens=True))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
