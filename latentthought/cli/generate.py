"""`latentthought generate`: answers to prompts, after thoughts, in words, or both mixed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from latentthought.cli.models import MODEL_HELP, LoadedModel, add_model_options, load
from latentthought.cli.parser import (
    Parser,
    UsageError,
    amount,
    natural,
    positive,
    refuse_greedy_samples,
    share,
    thoughts_argument,
)
from latentthought.cli.prompts import Asked, Request, add_prompt_options, ask, read_requests, thinks
from latentthought.errors import UnsupportedError

DESCRIPTION = "Answer prompts. Without --thoughts and --mix the model answers the way it was trained to."
EPILOG = """examples:
  latentthought generate runs/quickstart-001/arms/thoughts "..." --show-thoughts
  latentthought generate MODEL --input questions.jsonl --jsonl > answers.jsonl
  latentthought generate MODEL "..." --thoughts 0          answer in words
  latentthought generate MODEL "..." --samples 4 --temperature 0.8 --seed 1"""

SHOWN_WORDS = 5


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the question, as a row of the training data would ask it"
    )
    add_prompt_options(parser)
    parser.add_argument(
        "--thoughts",
        metavar="N|auto",
        type=thoughts_argument,
        help="thoughts before the answer; 0: none, in words; auto: until the model is done",
    )
    parser.add_argument(
        "--mix",
        metavar="M",
        type=share,
        help="feed a blend with this share of the hidden state at every reasoning token",
    )
    parser.add_argument(
        "--show-thoughts", action="store_true", help="print the words that each thought is closest to"
    )
    parser.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=positive,
        default=256,
        help="words of an answer at most (default: 256 tokens)",
    )
    parser.add_argument(
        "--samples", metavar="K", type=positive, default=1, help="answers a prompt (default: 1)"
    )
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=amount,
        help="sample words at this temperature (default: greedy; 1.0 with --samples)",
    )
    parser.add_argument(
        "--thought-noise",
        metavar="R",
        type=amount,
        default=0.0,
        help="Gaussian noise on the thoughts, of this relative size",
    )
    parser.add_argument("--seed", metavar="N", type=natural, default=0, help="of the samples (default: 0)")
    parser.add_argument(
        "--jsonl",
        action="store_true",
        help="print an object a line: id, question, sample, completion, thoughts, tokens",
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    if (args.prompt is None) == (args.input is None):
        raise UsageError("give a PROMPT or --input FILE, and not both")
    if args.mix and args.thoughts:
        raise UsageError("--mix feeds states while the model writes; it does not go with --thoughts")
    refuse_greedy_samples(args, args.thought_noise)
    requests = read_requests(args.prompt, args.input)
    loaded = load(args.model, args.device, args.dtype)
    several = args.samples > 1 or len(requests) > 1
    for answer in _answers(loaded, requests, args):
        if args.jsonl:
            print(json.dumps(answer, ensure_ascii=False), flush=True)
        else:
            _show(answer, several, args.samples)
    return 0


def _answers(
    loaded: LoadedModel, requests: Sequence[Request], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """An answer a prompt and sample, in order, batch by batch."""
    import torch

    torch.manual_seed(args.seed)
    asked = ask(
        loaded,
        requests,
        raw=args.raw,
        thoughts=args.thoughts,
        mix=args.mix,
        max_new_tokens=args.max_new_tokens,
    )
    for start in range(0, len(asked), args.batch_size):
        yield from _batch(loaded, asked[start : start + args.batch_size], args)


def _batch(loaded: LoadedModel, asked: Sequence[Asked], args: argparse.Namespace) -> Iterator[dict[str, Any]]:

    from latentthought import ThoughtSampling
    from latentthought.model.inputs import left_padded

    model, tokenizer = loaded.model, loaded.tokenizer
    ids, mask = (made.to(model.device) for made in left_padded([one.prompt for one in asked]))
    temperature = args.temperature
    if (
        temperature is None
        and args.samples > 1
        and not (args.thought_noise and thinks(model, args.thoughts, args.mix))
    ):
        temperature = 1.0  # otherwise all samples of a prompt would be the same
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    output = model.generate(
        ids,
        mask,
        thoughts=args.thoughts,
        mix_ratio=args.mix,
        thought_sampling=ThoughtSampling(noise=args.thought_noise),
        max_new_tokens=min(one.room for one in asked),
        num_return_sequences=args.samples,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        return_dict_in_generate=True,
        **sampling,
    )
    counts = output.thought_counts.tolist()
    words = _decoded(model, tokenizer, output) if args.show_thoughts else None
    ends = _end_ids(model, tokenizer)
    for place, sequence in enumerate(output.sequences):
        request = asked[place // args.samples].request
        new = list(takewhile(lambda token: token not in ends, sequence[ids.shape[1] :].tolist()))
        answer = {
            "id": request.id,
            "question": request.question,
            "sample": place % args.samples,
            "completion": tokenizer.decode(new, skip_special_tokens=True),
            "thoughts": counts[place],
            "tokens": len(new),
        }
        if words is not None:
            answer["thought_words"] = words[place]
        yield answer


def _decoded(model: Any, tokenizer: Any, output: Any) -> list[list[list[tuple[str, float]]]]:
    """[row][thought][rank] -> (word, probability): what the head says at each state that was fed in."""
    from latentthought.model.think import DecodedThoughts

    if model.thought.layer != -1:
        raise UnsupportedError(
            f"--show-thoughts: this model feeds back the states of block {model.thought.layer}, which the head does not read"
        )
    if not output.thoughts.shape[1]:
        return [[] for _ in output.sequences]
    probabilities, ids = model.backbone.head(output.thoughts).float().softmax(-1).topk(SHOWN_WORDS)
    return DecodedThoughts(ids, probabilities).words(tokenizer, output.thought_counts)


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """The tokens at which an answer ends: the model's own, and the tokenizer's."""
    own = model.generation_config.eos_token_id
    return {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}


def _show(answer: dict[str, Any], several: bool, samples: int) -> None:
    if several:
        number = f", sample {answer['sample'] + 1}" if samples > 1 else ""
        print(f"[{answer['id']}{number}] {answer['question']}")
    for order, words in enumerate(answer.get("thought_words", []), 1):
        print(f"  thought {order}: " + "  ".join(f"{word!r} {chance:.2f}" for word, chance in words))
    print(answer["completion"], flush=True)
