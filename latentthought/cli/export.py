"""`latentthought export`: what training made, in a form that other tools read."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from latentthought.cli.folders import written_whole
from latentthought.cli.models import MODEL_HELP, load
from latentthought.cli.parser import Parser
from latentthought.errors import NotFoundError, UnsupportedError

DESCRIPTION = """Write a model in another form:
  hf       the base model, thought-token rows included and adapters merged, with its tokenizer, as a folder that every tool
           for Hugging Face models reads. It answers in words: feeding states back is what latentthought adds
  adapter  what a run with model.lora trained and nothing else, for its base: peft's files, the tokenizer and how it thinks.
           Any command takes such a folder as its MODEL, and fetches the base"""
FORMATS = ("hf", "adapter")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--to", choices=FORMATS, default="hf", help="the form to write (default: hf)")
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="a folder that does not exist yet, or is empty"
    )


def run(args: argparse.Namespace) -> int:
    output = Path(args.output)
    if args.to == "adapter":
        _adapter(args.model, output)
        return 0
    with written_whole(output) as folder:
        loaded = load(args.model, device="cpu")
        loaded.model.to_base().save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    print(
        f"{output}: a plain Hugging Face model; AutoModelForCausalLM.from_pretrained({str(output)!r}) reads it"
    )
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
