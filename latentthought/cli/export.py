"""`latentthought export`: the plain Hugging Face model inside a latent-thought model."""

from __future__ import annotations

import argparse
from pathlib import Path

from latentthought.cli.folders import written_whole
from latentthought.cli.models import MODEL_HELP, load
from latentthought.cli.parser import Parser

DESCRIPTION = (
    "Write the base model, thought-token rows included and adapters merged, with its tokenizer, as a folder that every tool\n"
    "for Hugging Face models reads. It answers in words: feeding states back is what latentthought adds."
)
FORMATS = ("hf",)


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--to", choices=FORMATS, default="hf", help="the form to write (default: hf)")
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="a folder that does not exist yet, or is empty"
    )


def run(args: argparse.Namespace) -> int:
    output = Path(args.output)
    with written_whole(output) as folder:
        loaded = load(args.model, device="cpu")
        loaded.model.to_base().save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    print(
        f"{output}: a plain Hugging Face model; AutoModelForCausalLM.from_pretrained({str(output)!r}) reads it"
    )
    return 0
