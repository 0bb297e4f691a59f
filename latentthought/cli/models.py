"""The MODEL argument and the options of every command that runs a model."""

from __future__ import annotations

from latentthought.cli.parser import Parser
from latentthought.model.loading import LoadedModel, load_model
from latentthought.model.locating import MODEL_HELP

__all__ = ["MODEL_HELP", "LoadedModel", "add_model_options", "load"]


def add_model_options(parser: Parser) -> None:
    """The options of every command that runs a model."""
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="default: as the weights were saved",
    )


def load(argument: str, device: str | None = None, dtype: str = "auto") -> LoadedModel:
    """`load_model`, without the chatter of the libraries below."""
    from latentthought.cli.noise import quiet

    quiet()
    return load_model(argument, device, dtype)
