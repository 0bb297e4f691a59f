"""docs/files.md lists what the files really hold: of runs made here, and of the classes that write them."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from latentthought.cli import main
from latentthought.distillation.cache.manifest import Manifest
from latentthought.distillation.cache.shards import ShardEntry
from latentthought.distillation.cache.spec import CacheSpec
from latentthought.distillation.pruning.provenance import Cut
from latentthought.evaluation.comparison import Comparison
from latentthought.evaluation.results import Costs, Counts, Results
from latentthought.evaluation.samples import Sample
from latentthought.evaluation.statistics import Estimate, PairedDifference
from latentthought.evaluation.suites import SuiteConfig
from latentthought.evaluation.tasks import TaskConfig
from latentthought.model.adapters import AdapterOrigin
from latentthought.recipe import Recipe
from latentthought.training.incidents import Incident


@pytest.fixture(scope="module")
def sections(repository: Path) -> dict[str, str]:
    """The page's sections by heading."""
    text = (repository / "docs" / "files.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named(text: str) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", text))


def first_column(text: str) -> list[str]:
    """The names in the first cells of a section's tables."""
    return [
        name
        for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", cell)
    ]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        (
            "Recipe and task",
            set(Recipe.model_fields) | set(TaskConfig.model_fields) | set(SuiteConfig.model_fields),
        ),
        (
            "Teacher cache",
            {*Manifest.model_fields, *CacheSpec.model_fields, *ShardEntry.model_fields, "checksum"},
        ),
        ("Adapter folder", set(AdapterOrigin.model_fields)),
        ("What a pruned model remembers", set(Cut.__annotations__)),
        ("compare --output FILE.json", set(Comparison.model_fields)),
        (
            "Results",
            {*Results.model_fields, *Counts.model_fields, *Costs.model_fields, *Estimate.model_fields}
            | {*PairedDifference.model_fields, *(field.name for field in fields(Sample))},
        ),
        ("Run folder", set(Incident(0, "", "spike", "skip", 0.0).line())),
    ],
)
def test_every_key_is_told_of(heading: str, expected: set[str], sections: dict[str, str]) -> None:
    # fields that never reach the file
    unsaved = {"controls"} if heading == "Results" else set()
    assert expected - unsaved <= named(sections[heading])


def test_what_is_told_of_results_and_samples_is_there(sections: dict[str, str]) -> None:
    told = set(first_column(sections["Results"]))
    there = {*Results.model_fields, *(field.name for field in fields(Sample))}
    assert told - {"results.json", "samples.jsonl"} <= there


def patterns(sections: dict[str, str]) -> list[re.Pattern[str]]:
    names = first_column(sections["metrics.jsonl"])
    parts = ("mse", "cosine", "smooth_l1")
    names += [f"loss_<name>_{part}" for part in parts]
    return [re.compile(re.escape(name).replace("<name>", r"[a-z_0-9@]+?")) for name in names]


@pytest.mark.parametrize(
    "recipe",
    [
        ("quickstart", "training.gradient_norms=1"),
        ("codi-gpt2-gsm8k", "training.log_every=1"),
        ("latent-thought-r1-1.5b", "training.bad_steps.not_finite=skip"),
    ],
    ids=lambda recipe: recipe[0],
)
def test_every_key_of_the_metrics_is_told_of(
    recipe: tuple[str, ...], sections: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert main(["train", *recipe, "--smoke", "--profile", "--output", str(output)]) == 0
    known = patterns(sections)
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    found = {key for row in rows for key in row}
    assert {key for key in found if not any(pattern.fullmatch(key) for pattern in known)} == set()
    told = named(sections["Run folder"])
    for path in output.iterdir():
        name = (
            "checkpoint-N/"
            if path.name.startswith("checkpoint-")
            else path.name + ("/" if path.is_dir() else "")
        )
        assert name in told, name
    checkpoint = next(output.glob("checkpoint-*"))
    assert {path.name for path in checkpoint.glob("*.safetensors")} | {
        "run_state.json",
        "complete.json",
    } <= told


def test_a_key_that_is_not_told_of_is_seen(sections: dict[str, str]) -> None:
    known = patterns(sections)
    for key in ("loss_distill_smooth_l1", "validation_pass@4", "grad_norm_ce", "loss_ce_weighted"):
        assert any(pattern.fullmatch(key) for pattern in known)
    assert not any(pattern.fullmatch("thought_colour") for pattern in known)
