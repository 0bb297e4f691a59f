"""`latentthought prune`: a smaller model made of parts of a larger one, to be healed by distillation."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.cli.folders import require_empty, require_writable, written_whole
from latentthought.cli.models import MODEL_HELP, add_model_options, load
from latentthought.cli.noise import quiet
from latentthought.cli.parser import Parser, UsageError, add_field_option, columns, positive
from latentthought.cli.pruning_rules import DEPTH_FORM, WIDTH_FORM, depth_of, width_of
from latentthought.errors import ConfigError, DataError, MissingFileError, NotFoundError, nearest, unknown
from latentthought.resources import list_recipes

if TYPE_CHECKING:
    from latentthought.cli.pruning_rows import MeasuredRows
    from latentthought.distillation.pruning.settings import DepthPruning, WidthPruning
    from latentthought.model.loading import LoadedModel
    from latentthought.recipe import Recipe

DESCRIPTION = f"""Make a smaller model of parts of a larger one: fewer blocks (--depth), narrower ones (--width), or both. The
result is a plain Hugging Face folder that knows which block and channel of the larger model each of its own was
(config.pruning); a recipe with `layers: provenance` reads that by itself. RECIPE for MODEL: as its key model.pruning says,
into its model.base.
  --depth  {DEPTH_FORM}
           blocks count from 1; by: influence (the blocks that turn their input the least, the default) or last;
           protect_first=N, protect_last=N keep the ends
  --width  {WIDTH_FORM}
           a share below 1 or a size; importance: activation (the default) or magnitude; multiple_of=8
Influence and activation are measured on rows: those of the run's own recipe, or --data."""
EPILOG = """examples:
  latentthought prune runs/mine --depth 0.25 --output smaller
  latentthought prune meta-llama/Llama-3.2-1B --depth drop=9-12 --output runs/llama-12-blocks
  latentthought prune runs/mine --width mlp=0.75,heads=0.75 --with-thoughts --output narrower
  latentthought prune universal/depth"""
ROWS = 256


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL|RECIPE", help=f"{MODEL_HELP}; or a recipe with model.pruning")
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="with RECIPE: changes to it: dotted keys, YAML values",
    )
    parser.add_argument("--output", metavar="DIR", help="a folder that does not exist yet, or is empty")
    parser.add_argument("--depth", metavar="RULE", help="which blocks go; see above")
    parser.add_argument("--width", metavar="RULE", help="what stays inside the blocks; see above")
    parser.add_argument(
        "--data",
        metavar="RECIPE|RUN|SOURCE|FILE",
        help="what is measured on, rows or texts (default: the rows that MODEL, a run, was trained on)",
    )
    add_field_option(parser)
    parser.add_argument("--rows", metavar="N", type=positive, help=f"rows to measure on (default: {ROWS})")
    parser.add_argument(
        "--length", metavar="N", type=positive, default=1024, help="tokens of a text at most (default: 1024)"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=positive, default=8, help="rows at a time (default: 8)"
    )
    parser.add_argument(
        "--with-thoughts",
        action="store_true",
        help="keep how MODEL thinks too: a folder for this package's commands instead of a plain one",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="with RECIPE: a tiny model and made-up rows; offline"
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.model.endswith((".yaml", ".yml")) or args.model in list_recipes():
        return _by_recipe(args)
    if args.overrides:
        raise UsageError(f"unexpected argument {args.overrides[0]!r}: changes go with a RECIPE")
    if args.smoke:
        raise UsageError("--smoke goes with a RECIPE")
    _refuse_misspelt(args.model)
    if args.output is None:
        raise UsageError("say where the smaller model goes: --output DIR")
    depth, width = depth_of(args.depth), width_of(args.width)
    if depth is None and width is None:
        raise UsageError(f"say what goes: --depth ({DEPTH_FORM}) or --width ({WIDTH_FORM})")
    output = Path(args.output)
    _require_free(output)
    loaded = load(args.model, args.device, args.dtype)
    from latentthought.distillation.pruning.prune import require_fit  # loud, before `load` has quieted it

    require_fit(loaded.model, depth, width, args.with_thoughts)
    measured = _rows(args, loaded, depth, width)
    prune_into(output, loaded, depth, width, measured, with_thoughts=args.with_thoughts)
    return 0


def _by_recipe(args: argparse.Namespace) -> int:
    from latentthought.cli.teachers import check_overrides
    from latentthought.recipe import load_recipe

    for option in ("depth", "width", "rows"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option}: the recipe says it; change it with model.pruning.{option}=...")
    for option, key in (("data", "data.source=... or data.path=..."), ("field", "data.fields.NAME=COLUMN")):
        if getattr(args, option):
            raise UsageError(f"--{option}: a recipe is measured on its own rows; change them with {key}")
    check_overrides(args.overrides)
    recipe = load_recipe(args.model, args.overrides, smoke=args.smoke)
    if recipe.model.pruning is None:
        raise ConfigError(f"{recipe.name}: model.pruning says what is pruned, and the recipe has none")
    output = Path(args.output or recipe.model.base or "")
    if not output.name:
        raise UsageError("--smoke: say where the tiny model goes: --output DIR")
    _require_free(output)
    prune_by_recipe(recipe, output, args.smoke, args.device, args.dtype, args.batch_size, args.with_thoughts)
    return 0


def _refuse_misspelt(name: str) -> None:
    """A name that is no folder and nearly a recipe's is that recipe's, and no model of the hub."""
    close = nearest(name, list_recipes(), 1)
    if close and close[0].rpartition("/")[0] == name.rpartition("/")[0] and not Path(name).exists():
        raise NotFoundError(f"no model or recipe {name!r}; did you mean {close[0]}?")


def _require_free(output: Path) -> None:
    require_empty(output)
    require_writable(output)


def prune_by_recipe(
    recipe: Recipe,
    output: Path,
    smoke: bool = False,
    device: str | None = None,
    dtype: str = "auto",
    batch_size: int = 8,
    with_thoughts: bool = False,
    whole: str | None = None,
) -> None:
    """Make the folder that `model.base` of a recipe names; in a smoke run from the recipe's tiny model, or from `whole`."""
    quiet()
    from latentthought.cli.pruning_rows import recipe_rows
    from latentthought.distillation.pruning.prune import require_fit

    pruning = recipe.model.pruning
    assert pruning is not None
    if whole is None and recipe.model.scratch is not None:
        loaded = _from_scratch(recipe)
    else:
        loaded = load(whole or pruning.model, device, dtype)
    require_fit(loaded.model, pruning.depth, pruning.width, with_thoughts)
    measured = None
    if _needs_data(pruning.depth, pruning.width):
        measured = recipe_rows(recipe, loaded, pruning.rows, batch_size, smoke)
    prune_into(output, loaded, pruning.depth, pruning.width, measured, with_thoughts=with_thoughts)


def _from_scratch(recipe: Recipe) -> LoadedModel:
    import torch

    from latentthought.model.loading import LoadedModel
    from latentthought.model.modeling import LatentThoughtForCausalLM
    from latentthought.training.rows import training_rows

    data, examples = training_rows(recipe.data, None, recipe.seed, smoke=True)
    tokenizer = recipe.model.build_tokenizer(data.texts(examples), chat=data.format.chat)
    torch.manual_seed(recipe.seed)
    assert recipe.model.scratch is not None
    base = recipe.model.scratch.build(tokenizer)
    return LoadedModel(LatentThoughtForCausalLM.from_base(base).eval(), tokenizer, None)


def _needs_data(depth: DepthPruning | None, width: WidthPruning | None) -> bool:
    return any(rule is not None and rule.needs_data for rule in (depth, width))


def _rows(
    args: argparse.Namespace, loaded: LoadedModel, depth: DepthPruning | None, width: WidthPruning | None
) -> MeasuredRows | None:
    """What the rules measure on, or None where they measure nothing."""
    if not _needs_data(depth, width):
        for option in ("data", "field", "rows"):
            if getattr(args, option):
                raise UsageError(f"--{option}: nothing is measured by these rules")
        return None
    from latentthought.cli.pruning_rows import recipe_rows, text_rows
    from latentthought.recipe import load_recipe

    count, fields = args.rows or ROWS, columns(args.field)
    if fields and not args.data:
        raise UsageError("--field is about the columns of a file: give it as --data FILE")
    name = args.data
    if name is None:
        if loaded.run is None:
            raise UsageError(
                "--data: blocks by influence and channels by activation are measured on rows, and MODEL is no run folder that "
                "says which; give --data RECIPE, SOURCE or FILE, or by=last and importance=magnitude, which need none"
            )
        name = str(loaded.run / "recipe.yaml")
    if (Path(name) / "recipe.yaml").is_file():
        name = str(Path(name) / "recipe.yaml")
    if name.endswith((".yaml", ".yml")) or name in list_recipes():
        changes = [f"data.fields.{field}={json.dumps(column)}" for field, column in fields.items()]
        return recipe_rows(load_recipe(name, changes), loaded, count, args.batch_size, smoke=False)
    return text_rows(_texts(name, fields, count), loaded, count, args.batch_size, args.length)


def _texts(name: str, fields: dict[str, str], count: int) -> Iterator[str]:
    """A text a row, of the first rows: its `text`, or question, steps and answer."""
    from latentthought.data.encoding import FormatConfig
    from latentthought.data.sources import SOURCES, SourceConfig, load_examples
    from latentthought.data.sources.reading import SUFFIXES, BadRow, kind_of, read_rows

    path = Path(name)
    if path.is_file() and not kind_of(path):
        raise DataError(f"--data {name}: not a file of rows; allowed: {', '.join(SUFFIXES)}")
    if path.is_file():
        first = next((row for _, row in read_rows(path) if not isinstance(row, BadRow)), {})
        documents = any(nearest(field, ["text"]) for field in fields) if fields else "text" in first
        given: dict[str, Any] = {"source": "text" if documents else "file", "path": name}
    elif name in SOURCES:
        given = {"source": name}
    elif path.suffix or "/" in name:
        raise MissingFileError(f"--data {name}: no such file")
    else:
        raise NotFoundError(f"--data: {unknown('recipe or source', name, [*list_recipes(), *SOURCES])}")
    # checked by parse: what --field names is the user's own
    source = SourceConfig.parse(
        {**given, "fields": fields, "limit": count}, "--field" if fields else "--data"
    )
    as_text = FormatConfig(answer="{answer}")
    for row in load_examples(source):
        pieces = as_text.pieces(row)
        yield "".join((pieces.prompt.lstrip(), *pieces.steps, pieces.answer))


def prune_into(
    output: Path,
    loaded: LoadedModel,
    depth: DepthPruning | None,
    width: WidthPruning | None,
    measured: MeasuredRows | None,
    with_thoughts: bool = False,
) -> None:
    """Prune a loaded model and write the folder, whole or not at all; says what was kept."""
    from latentthought.distillation.pruning.prune import prune, with_thoughts_of
    from latentthought.evaluation.progress import Progress

    model = loaded.model
    config = model.base.config.get_text_config()
    print(f"model       {_sizes(config)}, {_parameters(model.base):,} parameters")
    batches = measured.batches if measured else ()
    if measured:
        print(f"measured    on {measured.what}")
    passes = len(batches) * sum(rule is not None and rule.needs_data for rule in (depth, width))
    with Progress("measured", passes, shown=True) as progress:
        pruned = prune(model, depth, width, batches, lambda what: progress.add(1))
    _show(pruned, config)
    kept: Any = with_thoughts_of(model, pruned) if with_thoughts else pruned
    with written_whole(output) as folder:
        kept.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    share = 100 * _parameters(pruned) / _parameters(model.base)
    print(f"pruned      {_parameters(pruned):,} parameters ({share:.1f} %) in {output}")


def _show(pruned: Any, before: Any) -> None:
    from latentthought.distillation.pruning.provenance import recorded
    from latentthought.distillation.pruning.roles import mlp_size

    after = pruned.config.get_text_config()
    cut = recorded(after)[-1]
    if len(cut["blocks"]) < cut["depth"]:
        print(f"blocks      {len(cut['blocks'])} of {cut['depth']} stay: {_ranges(cut['blocks'])}")
    if cut["influence"]:
        shown = [f"{block} {value:.3g}" for block, value in enumerate(cut["influence"], start=1)]
        for start in range(0, len(shown), 8):
            print(f"{'influence' if not start else '':<11} {', '.join(shown[start : start + 8])}")
    for name, old, new in (
        ("MLP", mlp_size(before), mlp_size(after)),
        ("heads", before.num_attention_heads, after.num_attention_heads),
        ("width", before.hidden_size, after.hidden_size),
    ):
        if new != old:
            print(f"{name:<11} {new:,} of {old:,}")


def _ranges(blocks: Sequence[int]) -> str:
    """1-3, 5, 7-8 for the blocks in it."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _sizes(config: Any) -> str:
    return f"{config.model_type}, {config.num_hidden_layers} blocks of width {config.hidden_size:,}"


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
