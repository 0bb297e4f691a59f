"""A whole run: from a recipe to a folder with a trained model.

output/recipe.yaml       the recipe, resolved
output/metrics.jsonl     one line every `log_every` steps
output/incidents.jsonl   one line for every bad step, where there were any
output/checkpoint-N      what a resume starts from
output/model             the trained model with its tokenizer; there only when the run is finished
output/adapter           with LoRA: the adapters alone (`model` has them merged in)
output/companions.safetensors   projectors and auxiliary decoders, where there are any; no part of `model`
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentthought.config import read_yaml, write_yaml
from latentthought.errors import ConfigError, DamagedFileError, Preempted
from latentthought.processes import process_count
from latentthought.training import checkpoints
from latentthought.training.float8 import check_float8
from latentthought.training.folder import ADAPTER_FOLDER, MODEL_FOLDER, RECIPE_FILE, claimed, save_folder
from latentthought.training.incidents import RolledBack
from latentthought.training.monitor import METRICS_FILE, MetricsFile
from latentthought.training.preparation import Prepared, prepare
from latentthought.training.progress import Progress, Silent, make_progress
from latentthought.training.strategy import check_strategy, strategy_process
from latentthought.training.surroundings import check_surroundings
from latentthought.training.watchdog import watching
from latentthought.training.zero import zero_settings

if TYPE_CHECKING:
    from latentthought.recipe import Recipe
    from latentthought.training.trainer import LatentThoughtTrainer
    from latentthought.training.validation import Scorer


@dataclass(frozen=True)
class RunResult:
    """What a finished run left. metrics: the last line of metrics.jsonl. seconds: of this call."""

    output: Path
    model: Path
    steps: int
    seconds: float
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def loss(self) -> float | None:
        return self.metrics.get("loss")


def train(
    recipe: Recipe,
    output: Path | str,
    *,
    resume: bool = False,
    smoke: bool = False,
    scorer: Scorer | None = None,
    progress: Progress | None = None,
    callbacks: tuple[Any, ...] = (),
) -> RunResult:
    """Train by a recipe.

    Args:
        recipe: see `load_recipe`; with `smoke` it should have been loaded with `smoke=True` too.
        output: the run folder; must be empty unless `resume`, which goes on from the last whole checkpoint, or starts
            the run when there is none.
        smoke: train on rows made by the source itself.
        scorer: validation while training (`recipe.evaluation` says when).
        progress: what a person sees; a bar or lines by default.
        callbacks: transformers callbacks.

    Raises: `FolderInUseError`; `ConfigError` for a resume with another recipe or other data; `Preempted` when SIGTERM or SIGUSR1
    asked the run to stop (it has saved itself); `LatentThoughtError` when a checkpoint cannot be written.
    """
    output = Path(output)
    # what does not hold is said before anything is made
    check_surroundings(recipe.engine)
    recipe.engine.arguments(recipe.training.batch_size, process_count())
    check_strategy(recipe)
    check_float8(recipe)
    if recipe.training.keep_best and scorer is None:
        raise ConfigError(
            f"training.keep_best: evaluation.task {recipe.evaluation.task} has no validation rows to score by; allowed: 0"
        )
    if recipe.training.report_to:
        from latentthought.training.arguments import check_trackers

        check_trackers(recipe.training.report_to)
    first = int(os.environ.get("RANK", "0")) == 0
    with claimed(output, resume) if first else nullcontext():
        if first:
            _settle_recipe(recipe, output)
        if (output / MODEL_FOLDER).is_dir():
            metrics = MetricsFile(output / METRICS_FILE).last()
            return RunResult(output, output / MODEL_FOLDER, metrics.get("step", 0), 0.0, metrics)
        shown = (progress or make_progress()) if first else Silent()
        try:
            with _stop_on_signals() as stop:
                while True:
                    try:
                        with strategy_process(recipe), watching(recipe.engine.timeout) as watch:
                            return _train(recipe, output, smoke, scorer, shown, callbacks, stop, watch)
                    except RolledBack as back:
                        # written down; what goes on reads it, and is a resume like any other
                        stop.trainer = None
                        if back.asked_to_stop:
                            raise Preempted(
                                f"stopped before step {back.incident.step + 1}, which is to be left out; continue with --resume"
                            ) from None
                    gc.collect()  # two models do not fit where one does
        finally:
            shown.close()


def _train(
    recipe: Recipe,
    output: Path,
    smoke: bool,
    scorer: Scorer | None,
    progress: Progress,
    callbacks: tuple[Any, ...],
    stop: _Stop,
    watch: Callable[[LatentThoughtTrainer], None],
) -> RunResult:
    begun = time.perf_counter()
    spread = zero_settings(recipe, process_count()) if recipe.engine.stage == 3 else None
    prepared = prepare(recipe, smoke, spread)
    for line in prepared.summary():
        progress.say(line)
    trainer = _make_trainer(prepared, output, scorer, progress, callbacks)
    watch(trainer)
    fingerprint = prepared.examples.fingerprint
    checkpoint = checkpoints.newest(output, progress.say)
    if checkpoint is not None:
        _check_data(checkpoint, fingerprint)
        trainer.restore_run(checkpoint)
    done = checkpoints.step_of(checkpoint) if checkpoint else 0
    if trainer.is_world_process_zero():
        checkpoints.clear_unfinished(output)
        trainer.recorder.file.truncate(done)
        trainer.incidents.truncate(done)
    if checkpoint is not None:
        progress.say(f"resumed from {checkpoint.name}")
    if trainer.is_world_process_zero():
        # a resume may go on with another engine, or another policy
        write_yaml(output / RECIPE_FILE, recipe.dump())
    progress.start(done, prepared.plan.end)
    if checkpoint is not None and done >= prepared.plan.end:
        trainer.restore_weights(checkpoint)  # killed between the last checkpoint and the final model
    else:
        stop.trainer = trainer
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        stop.trainer = None
        done = trainer.state.global_step
        if trainer.stop_requested and done < prepared.plan.end:
            raise Preempted(f"stopped at step {done} of {prepared.plan.end}; continue with --resume")
    if prepared.guidance.teaching is not None and (line := prepared.guidance.teaching.report()):
        progress.say(line)
    model = _save_final(prepared, trainer, output)
    seconds = max(time.perf_counter() - begun, 0.0)
    return RunResult(output, model, done, seconds, trainer.recorder.file.last())


def _make_trainer(
    prepared: Prepared, output: Path, scorer: Scorer | None, progress: Progress, callbacks: tuple[Any, ...]
) -> LatentThoughtTrainer:
    import torch

    from latentthought.data.tokenizer import pad_id
    from latentthought.model.sharding import tell_readers
    from latentthought.training.arguments import arguments
    from latentthought.training.fsdp import fsdp_sharding
    from latentthought.training.trainer import LatentThoughtTrainer

    recipe = prepared.recipe
    if recipe.engine.threads is not None:
        torch.set_num_threads(recipe.engine.threads)
    engine = recipe.engine.arguments(recipe.training.batch_size, process_count())
    zero = zero_settings(recipe, process_count()) if recipe.engine.stage else None
    trainer = LatentThoughtTrainer(
        prepared.model,
        arguments(recipe.training, engine, output, recipe.seed, prepared.plan.longest, zero),
        train_dataset=prepared.dataset,
        objective=prepared.guidance.objective,
        teacher=prepared.guidance.teacher,
        teaching=prepared.guidance.teaching,
        on_policy=prepared.guidance.on_policy,
        settings=recipe.training,
        pad_id=pad_id(prepared.tokenizer),
        scorer=scorer,
        validate_every=recipe.evaluation.every,
        tokenizer=prepared.tokenizer,
        data_fingerprint=prepared.examples.fingerprint,
        progress=progress,
        callbacks=callbacks,
        shard=fsdp_sharding(recipe.engine),
    )
    if recipe.engine.stage == 3:
        tell_readers(prepared.model)
    if recipe.engine.gradient_checkpointing:
        trainer.latent_model.gradient_checkpointing_enable()
    return trainer


def _settle_recipe(recipe: Recipe, output: Path) -> None:
    """Write `recipe.yaml`, or check that a resume is of the same recipe, whatever engine it runs on."""
    path = output / RECIPE_FILE
    if not path.exists():
        write_yaml(path, recipe.dump())
        return
    try:
        stored = type(recipe).parse(read_yaml(path), str(path))
    except ConfigError as error:
        raise ConfigError(f"--resume: the recipe in this folder no longer reads: {error}") from None
    if (output / MODEL_FOLDER).is_dir() and stored.training.final_model != recipe.training.final_model:
        raise ConfigError(
            f"training.final_model: {recipe.training.final_model}, and this run is finished with {stored.training.final_model}; "
            f"to have the other weights made, move {output / MODEL_FOLDER} away"
        )
    changed = recipe.differences(stored)
    if changed:
        raise ConfigError(
            f"--resume: the recipe differs from the one this run was started with ({path}): "
            + "; ".join(changed)
        )


def _check_data(checkpoint: Path, fingerprint: str) -> None:
    import json

    from latentthought.training.checkpointing import RUN_STATE

    path = checkpoint / RUN_STATE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedFileError(f"{path}: unreadable: {error}") from error
    if stored != fingerprint:
        raise ConfigError(
            "--resume: the training rows are not those that this run was started with (data.source, data.path)"
        )


def _save_final(prepared: Prepared, trainer: LatentThoughtTrainer, output: Path) -> Path:
    from latentthought.model.adapters import merged, save_adapter
    from latentthought.model.companions import save_companions
    from latentthought.model.sharding import bring_home
    from latentthought.training.float8 import make_plain

    model, tokenizer = (
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False),
        prepared.tokenizer,
    )
    bring_home(model, keep=trainer.is_world_process_zero())
    if not trainer.is_world_process_zero():
        return output / MODEL_FOLDER
    make_plain(trainer.latent_model)
    if prepared.recipe.training.final_model == "best":
        checkpoints.load_weights(model, _best_checkpoint(trainer, output))
    save_companions(trainer.latent_model, output)
    if prepared.recipe.model.lora is not None:
        origin = prepared.recipe.model.adapter_origin
        save_folder(output / ADAPTER_FOLDER, lambda folder: save_adapter(model, tokenizer, folder, origin))
        model = merged(model)

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return save_folder(output / MODEL_FOLDER, write)


def _best_checkpoint(trainer: LatentThoughtTrainer, output: Path) -> Path:
    found = [output / checkpoints.name_of(step) for step in trainer.best.steps]
    problems = {folder: checkpoints.problem_with(folder) for folder in found}
    whole = next((folder for folder, problem in problems.items() if problem is None), None)
    if whole is None:
        told = "; ".join(f"{folder.name}: {problem}" for folder, problem in problems.items())
        raise DamagedFileError(
            f"{output}: no best checkpoint of the last stage ({told or 'none was scored'}); --resume training.final_model=last "
            "does without"
        )
    return whole


class _Stop:
    """Makes a run that trains save itself at the end of the step and stop; before and after that it leaves at once."""

    def __init__(self) -> None:
        self.trainer: LatentThoughtTrainer | None = None

    def __call__(self, number: int, frame: Any) -> None:
        if self.trainer is None:
            raise Preempted("stopped outside of training, nothing is lost; continue with --resume")
        self.trainer.stop_requested = True


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """Hand SIGTERM and SIGUSR1 (schedulers send either) to a `_Stop`."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
