"""Extracting a teacher's states to a cache, against the teacher's forward alone.

Floor, in operations, for P block weights, T positions in all (padding included) and batches of length t: 2 P T + 4 L D T t / 2
(scores and sums, causal); no head, since nothing reads it. In bytes: 4 P a batch in fp32 for the weights, and what goes to the
disk. Everything beyond the forward (gathering, encoding, checksums, the disk) should hide behind it.

The rival is what one writes by hand: rows in the order of the data, `output_hidden_states=True`, the layers stacked, cut to the
rows' own positions and saved. It keeps the same states, without checksums, resume or lookup by id.
Rows are made up by the data set's own generator, tokenised digit by digit and repeated under new ids.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import workload
from benchmarks.agreement import Disagreement
from benchmarks.report import Floor, Report, Row, Target
from benchmarks.settings import Settings
from benchmarks.timing import Side, measure
from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import FormatConfig
from latentthought.data.example import ExampleSet
from latentthought.data.sources.loading import SourceConfig, load_examples
from latentthought.data.stage import StageSettings
from latentthought.data.tokenizer import TokenizerConfig, train_tokenizer
from latentthought.distillation.cache.spec import Codec
from latentthought.distillation.cache.store import TeacherStateCache
from latentthought.distillation.extraction import Extractor
from latentthought.distillation.matching import TeacherFacts, spec_for
from latentthought.distillation.teacher import Teacher, TeacherConfig
from latentthought.objective.alignment import sites

ROUNDS = 7
FLOOR, OURS, RIVAL = "forward only", "latentthought, bf16", "all hidden states by hand"
RULES = ("reasoning", "answer")
TEXT = Curriculum(method="text", each=StageSettings(steps=1))


@dataclass(frozen=True)
class Work:
    """The teacher and what it reads. batches: on the device, as the extraction makes them; in_order: as the data comes."""

    teacher: Teacher
    settings: TeacherConfig
    rows: ExampleSet
    layers: tuple[int, ...]
    batches: list[dict[str, Any]]
    in_order: list[tuple[dict[str, Any], list[Any]]]

    @property
    def positions(self) -> int:
        """Positions of all batches, padding included."""
        return sum(batch["input_ids"].numel() for batch in self.batches)

    def extractor(self, codec: Codec) -> Extractor:
        assert self.settings.cache is not None
        settings = self.settings.replace(cache={**self.settings.cache.dump(), "codec": codec})
        facts = TeacherFacts("made up", "none", "none", self.teacher.blocks, self.teacher.width)
        spec = spec_for(facts, settings, FormatConfig(), TEXT, self.rows.fingerprint, self.layers, RULES)
        reader = self.teacher.reader(settings, FormatConfig(), TEXT)
        return Extractor(self.teacher, reader.collate, reader.read(self.rows), spec)


def run(settings: Settings) -> Report:
    work = prepare(settings)
    folder = Path(tempfile.mkdtemp(prefix="extraction-"))
    try:
        agreement = agree(work, folder)
        sides = [
            Side(FLOOR, "floor", lambda: forwards(work)),
            Side(OURS, "ours", into(work, folder, "bf16")),
            Side("latentthought, fp8", "ours", into(work, folder, "fp8")),
            Side(RIVAL, "rival", lambda: by_hand(work, folder), note="rows in order"),
        ]
        timings = measure(
            sides, settings.device, settings.rounds_or(ROUNDS), memory=False, progress=settings.progress
        )
        stored = sum(file.stat().st_size for file in (folder / "bf16").iterdir())
    finally:
        shutil.rmtree(folder)
    rows = Row.of(sides, timings, agreement, "positions/s", work.positions)
    ours = next(row for row in rows if row.side == OURS)
    title = (
        f"{len(work.rows)} rows of {work.positions // len(work.rows)} positions on average, batches of "
        f"{work.settings.batch_size}, states of {len(work.layers)} layers at {', '.join(RULES)}"
    )
    target = Target.at_least(OURS, "of the forward-only throughput", 1 / ours.ratio, 0.95)
    return Report("extraction", title, floor_of(work, settings, stored), rows, targets=[target])


def prepare(settings: Settings) -> Work:
    """The model, the rows, and their batches on the device."""
    made = load_examples(SourceConfig(source="gsm8k"), smoke=True)
    times = 1 if settings.quick or settings.device.type == "cpu" else 32
    rows = ExampleSet(
        [replace(example, id=f"{example.id}/{copy}") for copy in range(times) for example in made]
    )
    form = FormatConfig()
    pieces = [form.pieces(example) for example in made]
    texts = [text for piece in pieces for text in (piece.prompt, *piece.steps, piece.answer)]
    words = train_tokenizer(TokenizerConfig(kind="words"), texts)
    base = workload.make_base(settings.sizes, settings.device, settings.seed).to(settings.dtype)
    teacher = Teacher(workload.make_model(base), words, "made up")
    blocks = settings.sizes.layers
    layers = (blocks // 4, blocks // 2, blocks * 3 // 4, -1)
    asked = {"path": "states", "rows_per_shard": 16 if settings.device.type == "cpu" else 128}
    batch_size = 8 if settings.device.type == "cpu" else 32
    config = TeacherConfig.parse({"model": "made up", "batch_size": batch_size, "cache": asked})
    work = Work(teacher, config, rows, layers, [], [])
    one = work.extractor("bf16")
    reader = teacher.reader(config, form, TEXT)

    def batch_of(places: Sequence[int]) -> dict[str, Any]:
        batch = reader.collate([one.readings[place].row for place in places])
        return {
            name: value.to(settings.device) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    for shard in range(one.shards):
        work.batches.extend(batch_of(batch) for batch in one.batches_of(shard))
    for start in range(0, len(rows), batch_size):
        places = range(start, min(start + batch_size, len(rows)))
        work.in_order.append((batch_of(places), [one.readings[place] for place in places]))
    return work


@torch.no_grad()
def forwards(work: Work) -> None:
    """The forward of every batch, and nothing kept of it."""
    base = work.teacher.model.base.base_model
    for batch in work.batches:
        base(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            use_cache=False,
        )


def into(work: Work, folder: Path, codec: Codec) -> Callable[[], None]:
    """An extraction from the plan to the manifest, into a folder of its own each time; `folder / codec` is the last one."""
    one, place = work.extractor(codec), folder / codec

    def extract() -> None:
        if place.is_dir():  # to be removed at the end: that takes time too
            place.rename(folder / f"{codec}-{len(list(folder.iterdir()))}")
        place.mkdir()
        one.run(place, range(one.shards), {})

    return extract


@torch.no_grad()
def by_hand(work: Work, folder: Path) -> None:
    """The same states as one would write them down without this package."""
    states: dict[str, Tensor] = {}
    for batch, readings in work.in_order:
        found = work.teacher.model.base(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            output_hidden_states=True,
        ).hidden_states
        stacked = torch.stack([found[layer] for layer in work.layers], 2).cpu()
        for row, reading in enumerate(readings):
            columns = [site.start for rule in RULES for site in sites(reading, rule)]
            states[reading.encoded.id] = stacked[row, columns].to(torch.bfloat16)
    save_file(states, folder / "by-hand.safetensors")


def agree(work: Work, folder: Path) -> dict[str, str]:
    """What each side kept, compared in fp32 with transformers' own states; raises where ours are others."""
    into(work, folder, "fp32")()
    cache, worst = TeacherStateCache.open(folder / "fp32"), 0.0
    with torch.no_grad():
        batch, readings = work.in_order[0]
        found = work.teacher.model.base(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            output_hidden_states=True,
        ).hidden_states
    for row, reading in enumerate(readings):
        columns = [site.start for rule in RULES for site in sites(reading, rule)]
        expected = torch.stack([found[layer][row, columns] for layer in work.layers], 1).float().cpu()
        kept = cache.record(reading.encoded.id).states
        worst = max(worst, float((kept - expected).norm() / expected.norm()))
    shutil.rmtree(folder / "fp32")
    allowed = 1e-5 if work.teacher.dtype == torch.float32 else 2e-2
    if worst > allowed:
        raise Disagreement(f"{OURS}: states differ from transformers' by {worst:.1e}, allowed {allowed:.0e}")
    same = f"states within {worst:.0e}"
    return {
        FLOOR: "keeps nothing",
        OURS: same,
        "latentthought, fp8": same + " before rounding",
        RIVAL: "the same states",
    }


def floor_of(work: Work, settings: Settings, stored: int) -> Floor:
    """Operations and bytes of all forwards, and the bytes that are written; see the module."""
    sizes, operations = settings.sizes, 0.0
    for batch in work.batches:
        rows, length = batch["input_ids"].shape
        operations += 2 * sizes.parameters * rows * length
        operations += 2 * sizes.layers * sizes.width * rows * length**2
    item = torch.empty((), dtype=settings.dtype).element_size()
    return Floor(operations, item * sizes.parameters * len(work.batches) + stored)
