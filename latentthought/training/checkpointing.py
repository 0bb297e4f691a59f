"""How a trainer writes its checkpoints and reads them back; `training.checkpoints` says what makes one whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import Trainer

from latentthought.training import checkpoints

if TYPE_CHECKING:
    from latentthought.training.optimization import TrainingConfig
    from latentthought.training.recorder import Recorder

RUN_STATE = "run_state.json"


def inside(model: Any) -> Any:
    """The model that peft wrapped, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class CheckpointingTrainer(Trainer):
    """The part of `LatentThoughtTrainer` that keeps Trainer's checkpoints whole."""

    settings: TrainingConfig
    recorder: Recorder
    data_fingerprint: str
    tokenizer: Any
    _saving_in: Path | None = None

    @property
    def latent_model(self) -> Any:
        """The `LatentThoughtForCausalLM` inside whatever wraps it."""
        return inside(self.accelerator.unwrap_model(self.model))

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self._saving_in) if self._saving_in is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        run, step = Path(self.args.output_dir), self.state.global_step
        owner = self.is_world_process_zero()
        with checkpoints.saving(run, step, owner, self.accelerator.wait_for_everyone) as folder:
            self._saving_in = folder.parent
            try:
                super()._save_checkpoint(model, trial)
                state = {"data": self.data_fingerprint, **self.recorder.state()}
                if owner:
                    checkpoints.write_json(folder / RUN_STATE, state)
            finally:
                self._saving_in = None
        if owner:
            checkpoints.prune(run, step, self.settings.keep_last)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.save_weights(self.accelerator.unwrap_model(self.model), folder)
        self.latent_model.config.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.restore_weights(Path(resume_from_checkpoint))

    def restore_weights(self, folder: Path) -> None:
        """Read the weights of a checkpoint into the model."""
        checkpoints.load_weights(self.accelerator.unwrap_model(self.model), folder)

    def restore_run(self, folder: Path) -> None:
        """Take over decisions and half-filled windows of a checkpoint; `train(resume_from_checkpoint=...)` does the rest."""
        state = json.loads((folder / RUN_STATE).read_text(encoding="utf-8"))
        self.recorder.restore(state, owner=self.is_world_process_zero())
