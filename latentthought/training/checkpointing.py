"""How a trainer writes its checkpoints and reads them back; `training.checkpoints` says what makes one whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import Trainer

from latentthought.errors import ConfigError
from latentthought.processes import StoppedElsewhere
from latentthought.training import checkpoints
from latentthought.training.optimizer_state import load_optimizer, save_optimizer
from latentthought.training.watchdog import Unwatched

if TYPE_CHECKING:
    from latentthought.training.best import BestSteps
    from latentthought.training.incidents import StepGuard
    from latentthought.training.optimization import TrainingConfig
    from latentthought.training.progress import Progress
    from latentthought.training.recorder import Recorder

RUN_STATE = "run_state.json"


def inside(model: Any) -> Any:
    """The model that peft wrapped, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class CheckpointingTrainer(Trainer):
    """The part of `LatentThoughtTrainer` that keeps Trainer's checkpoints whole."""

    settings: TrainingConfig
    recorder: Recorder
    guard: StepGuard
    best: BestSteps
    progress: Progress
    data_fingerprint: str
    tokenizer: Any
    watch: Unwatched = Unwatched()
    shard: Callable[[nn.Module], None] | None = None
    _saving_in: Path | None = None
    _failure: Exception | None = None

    @property
    def latent_model(self) -> Any:
        """The `LatentThoughtForCausalLM` inside whatever wraps it."""
        return inside(self.accelerator.unwrap_model(self.model))

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self._saving_in) if self._saving_in is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        run, step = Path(self.args.output_dir), self.state.global_step
        owner = self.is_world_process_zero()
        self.watch.mark("saving")
        with checkpoints.saving(run, step, owner, self.accelerator.wait_for_everyone) as folder:
            self._saving_in = folder.parent
            try:
                with self._writing():
                    super()._save_checkpoint(model, trial)
                state = {
                    "data": self.data_fingerprint,
                    "guard": self.guard.state(),
                    "best": self.best.state(),
                    **self.recorder.state(),
                }
                with self._writing():
                    if owner:
                        checkpoints.write_json(folder / RUN_STATE, state)
                self._fail_together()
            finally:
                self._saving_in = None
        if owner:
            checkpoints.prune(run, step, self.settings.keep_last, self.best.steps)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keeps what goes wrong on the disk of one of several processes until all have taken part in what takes all of them."""
        try:
            yield
        except (OSError, SafetensorError, RuntimeError) as error:
            if self.accelerator.num_processes == 1:
                raise
            self._failure = self._failure or error

    def _fail_together(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        failed = torch.tensor(float(self._failure is not None), device=self.args.device)
        failure, self._failure = self._failure, None
        if self.accelerator.reduce(failed, "sum") > 0:
            raise failure or StoppedElsewhere(1)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write weights, config and tokenizer. All ranks have to call it: weights may be spread over them."""
        folder, write = Path(output_dir or self.args.output_dir), self.args.should_save
        with self._writing():
            if write:
                folder.mkdir(parents=True, exist_ok=True)
            checkpoints.save_weights(self.accelerator.unwrap_model(self.model), folder, write)
            if write:
                self.latent_model.config.save_pretrained(folder)
            if write and self.tokenizer is not None:
                self.tokenizer.save_pretrained(folder)
        if not _internal_call:
            self._fail_together()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        model = self.accelerator.unwrap_model(self.model)
        with self._writing():
            save_optimizer(model, self.optimizer, Path(output_dir), self.args.should_save)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        # nothing of the schedule is to be remembered: each step sets its rate, a function of its number
        load_optimizer(self.accelerator.unwrap_model(self.model), self.optimizer, Path(checkpoint))

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> Any:
        """As Trainer's, but every engine starts from weights that are whole, and gets the optimizer's states afterwards."""
        if self.shard is not None:
            # Trainer has read the checkpoint, and makes the optimizer next; as if for evaluation, so that DDP stays away
            self.shard(self.model)
            self.accelerator.prepare_model(self.model, device_placement=False, evaluation_mode=True)
        if resume_from_checkpoint is not None and self.is_deepspeed_enabled:
            self.restore_weights(Path(resume_from_checkpoint))
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        self._load_optimizer_and_scheduler(resume_from_checkpoint)
        self._load_scaler(resume_from_checkpoint)
        return prepared

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        if self.shard is None:  # which moves a part at a time
            super()._move_model_to_device(model, device)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.restore_weights(Path(resume_from_checkpoint))

    def restore_weights(self, folder: Path) -> None:
        """Read the weights of a checkpoint into the model."""
        checkpoints.load_weights(self.accelerator.unwrap_model(self.model), folder)

    def restore_run(self, folder: Path) -> None:
        """Take over decisions and half-filled windows of a checkpoint; `train(resume_from_checkpoint=...)` does the rest."""
        state = json.loads((folder / RUN_STATE).read_text(encoding="utf-8"))
        if missing := {"guard", "best", "skipped"} - state.keys():
            raise ConfigError(
                f"{folder / RUN_STATE}: no {sorted(missing)[0]!r}: an earlier version has written it, and only that one reads it"
            )
        self.recorder.restore(state, owner=self.is_world_process_zero())
        self.guard.restore(state["guard"])
        run = folder.parent
        lost = self.best.restore(
            state["best"], lambda step: checkpoints.problem_with(run / checkpoints.name_of(step))
        )
        for line in lost:
            self.progress.say(line)
