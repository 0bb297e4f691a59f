"""`latentthought export`: what training made, in a form that other tools read."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from latentthought.cli.folders import require_empty, written_whole
from latentthought.cli.models import MODEL_HELP, add_model_options, load
from latentthought.cli.parser import Parser, UsageError, thoughts_argument
from latentthought.cli.prompts import add_prompt_options, ask, read_requests
from latentthought.errors import NotFoundError, UnsupportedError

DESCRIPTION = """Write a model in another form:
  hf       the base model, thought-token rows included and adapters merged, with its tokenizer, as a folder that every tool
           for Hugging Face models reads. It answers in words: feeding states back is what latentthought adds
  adapter  what a run with model.lora trained and nothing else, for its base: peft's files, the tokenizer and how it thinks.
           Any command takes such a folder as its MODEL, and fetches the base
  prompt-embeds
           the base model, and prompts with their thoughts as input embeddings, for a serving engine that takes those (vLLM) and
           writes the answers: DIR/model, DIR/prompts-00000.safetensors (a (tokens, width) tensor a prompt), DIR/prompts.jsonl
           (what is in them), DIR/index.json"""
EPILOG = """examples:
  latentthought export runs/mine --to hf --output plain-model
  latentthought export runs/mine --to prompt-embeds --input questions.jsonl --output served
  latentthought export runs/mine --to prompt-embeds "a question" --thoughts 4 --no-model --output served-4"""
FORMATS = ("hf", "adapter", "prompt-embeds")
MODEL = "model"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs="?",
        help="prompt-embeds: the question, as in latentthought generate",
    )
    parser.add_argument("--to", choices=FORMATS, default="hf", help="the form to write (default: hf)")
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="a folder that does not exist yet, or is empty"
    )
    served = parser.add_argument_group("with --to prompt-embeds")
    add_prompt_options(served)
    served.add_argument(
        "--thoughts",
        metavar="N|auto",
        type=thoughts_argument,
        help="thoughts of a prompt (default: as trained); 0: none; auto: until the model is done",
    )
    served.add_argument(
        "--no-model", action="store_true", help="prompts alone; the model is with the engine already"
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    output = Path(args.output)
    if args.to == "prompt-embeds":
        return _prompt_embeds(args, output)
    if given := [name for name in ("prompt", "input", "thoughts", "raw", "no_model") if getattr(args, name)]:
        what = "PROMPT" if given[0] == "prompt" else f"--{given[0].replace('_', '-')}"
        raise UsageError(f"{what} goes with --to prompt-embeds, not with --to {args.to}")
    if args.to == "adapter":
        _adapter(args.model, output)
        return 0
    with written_whole(output) as folder:
        _save_plain(load(args.model, args.device or "cpu", args.dtype), folder)
    print(
        f"{output}: a plain Hugging Face model; AutoModelForCausalLM.from_pretrained({str(output)!r}) reads it"
    )
    return 0


def _save_plain(loaded: Any, folder: Path) -> None:
    loaded.model.to_base().save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def _prompt_embeds(args: argparse.Namespace, output: Path) -> int:
    if (args.prompt is None) == (args.input is None):
        raise UsageError("--to prompt-embeds: give a PROMPT or --input FILE, and not both")
    require_empty(output)  # said before a model is read
    requests = read_requests(args.prompt, args.input)
    from latentthought.evaluation.progress import Progress
    from latentthought.model.prompt_embeds import embed_prompts, refuse_mixing, write_prompt_embeds

    loaded = load(args.model, args.device, args.dtype)
    refuse_mixing(loaded.model, args.thoughts)
    asked = ask(loaded, requests, raw=args.raw, thoughts=args.thoughts)
    labels = [{"id": one.request.id, "question": one.request.question} for one in asked]
    prompts = [one.prompt for one in asked]
    about = {
        "from": args.model,
        "thoughts": "as trained" if args.thoughts is None else args.thoughts,
        "model": None if args.no_model else MODEL,
    }
    total = 0

    with written_whole(output) as folder, Progress("prompts", len(prompts), shown=True) as progress:
        if not args.no_model:
            _save_plain(loaded, folder / MODEL)

        def counted() -> Any:
            nonlocal total
            for row in embed_prompts(loaded.model, prompts, args.thoughts, batch_size=args.batch_size):
                total += row.thoughts
                yield row
                progress.add(1)

        write_prompt_embeds(counted(), folder, labels=labels, about=about)
    served = "" if args.no_model else f"; an engine serves {output / MODEL}"
    noun = "prompt" if len(prompts) == 1 else "prompts"
    print(f"{output}: {len(prompts):,} {noun} with {total:,} thoughts as input embeddings{served}")
    return 0


def _adapter(argument: str, output: Path) -> None:
    from latentthought.model.adapters import read_origin
    from latentthought.model.locating import ADAPTER_CONFIG, locate

    where, run = locate(argument)
    trained = run / "adapter" if run is not None else Path(where)
    if not (trained / ADAPTER_CONFIG).is_file():
        what = (
            "was trained whole, without model.lora"
            if run is not None
            else "is not a run folder with adapters"
        )
        raise NotFoundError(f"{argument}: {what}, so there is no adapter to export; --to hf writes the model")
    origin, _ = read_origin(trained)
    if origin.base is None:
        raise UnsupportedError(
            f"{argument}: its base was made from nothing (model.scratch), and nobody else has it; --to hf writes the whole model"
        )
    with written_whole(output) as folder:
        shutil.copytree(trained, folder, dirs_exist_ok=True)
    quantized = f", in {origin.quantize}" if origin.quantize != "none" else ""
    print(f"{output}: an adapter for {origin.base}{quantized}; latentthought generate {output} puts it on")
