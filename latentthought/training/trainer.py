"""`LatentThoughtTrainer`: transformers' Trainer, walking the stages of a curriculum in one `train()`.

Trainer keeps its loop, accumulation, precision, devices, clipping and trackers. Replaced are the data order (a virtual data set
of slots), the loss (an objective with global counts), the learning rate (a function of the step), logging (means of whole
windows, one copy from the device a line) and checkpoints (whole or not there). Everything that a step depends on is a
function of its slot and of the decision log, so nothing but weights, optimizer, decisions and half-filled windows is saved.
Rejected: a loop of our own (every engine, tracker and launcher would have to be supported again).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from latentthought.data.curriculum import Curriculum
from latentthought.data.encoding import Encoded
from latentthought.errors import ConfigError
from latentthought.model.sharding import at_hand, sharded
from latentthought.model.spans import span
from latentthought.objective.balance import Balances
from latentthought.objective.comparison import TeacherOutput
from latentthought.objective.gradients import gradient_norms
from latentthought.objective.spelling import SpellingTerm
from latentthought.objective.terms import DEFAULT_TERMS
from latentthought.objective.total import Objective
from latentthought.processes import StoppedElsewhere
from latentthought.training.arguments import settings_of
from latentthought.training.best import BestSteps
from latentthought.training.checkpointing import inside
from latentthought.training.dataset import StageCollator, StagedDataset, seed_slot, staged
from latentthought.training.float8 import plain
from latentthought.training.flow import StepFlow
from latentthought.training.guarding import GuardedTrainer
from latentthought.training.optimization import TrainingConfig, set_rate_step, split_groups
from latentthought.training.optimizer_state import clear_optimizer
from latentthought.training.own_text import OwnText
from latentthought.training.progress import Progress, Silent
from latentthought.training.recorder import Recorder
from latentthought.training.stages import Moment
from latentthought.training.validation import Scorer, scores

if TYPE_CHECKING:
    from latentthought.distillation.on_policy import OnPolicy
    from latentthought.distillation.teacher import Teacher
    from latentthought.distillation.teaching import Teaching

# what a batch holds for the objective and the log, and the model's forward does not take
_BESIDE = frozenset({"regions", "slot", "moment", "comparisons", "teacher", "chain", "spelling", "written"})


class LatentThoughtTrainer(GuardedTrainer):
    """Trains a latent-thought model over all stages of a curriculum.

    Args:
        model: a `LatentThoughtForCausalLM`, or peft's wrapper of one.
        args: transformers' arguments; `arguments()` makes them from a recipe's settings.
        train_dataset: the slots of the run, or encoded rows, which `curriculum` then lays out.
        objective: what is minimised, as an `Objective` or its terms; cross-entropy by default.
        teacher: a live teacher; frozen, and no part of the model, the optimizer or the checkpoints. None where the teacher's
            states come from a cache, where the model teaches itself, and where nobody teaches.
        teaching: joins its reading of each example with the student's.
        on_policy: writes and reads the student's own text, in steps that take it.
        settings: batch, learning rate, logging and saving; by default what `args` says, see `settings_of`.
        pad_id: id written at padding.
        scorer, validate_every, tokenizer: validation; see `training.validation`.
        data_fingerprint: identifies the rows; saved, so that a resume can tell whether they are the same.
        progress: what a person sees. callbacks: further transformers callbacks.
        shard: cuts the model up among the processes, before the optimizer is made (`training.fsdp`); then nothing else wraps it.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        train_dataset: StagedDataset | Sequence[Encoded],
        curriculum: Curriculum | None = None,
        objective: Objective | Sequence[Any] | None = None,
        teacher: Teacher | None = None,
        teaching: Teaching | None = None,
        on_policy: OnPolicy | None = None,
        settings: TrainingConfig | None = None,
        pad_id: int = 0,
        scorer: Scorer | None = None,
        validate_every: int = 0,
        tokenizer: Any = None,
        data_fingerprint: str = "",
        progress: Progress | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        shard: Callable[[nn.Module], None] | None = None,
    ) -> None:
        config: Any = model.config
        # Trainer turns this off for good, and the saved model would generate without a cache
        use_cache = getattr(config, "use_cache", None)
        settings = settings or settings_of(args)
        if not isinstance(train_dataset, StagedDataset):
            if curriculum is None:
                raise ConfigError("LatentThoughtTrainer: encoded rows need a curriculum that lays them out")
            thought = inside(model).thought
            train_dataset = staged(train_dataset, curriculum, thought, settings, args.seed, teaching)
        if args.max_steps < 0:
            args.max_steps = train_dataset.plan.longest
        self.objective = (
            objective if isinstance(objective, Objective) else Objective(objective or DEFAULT_TERMS)
        )
        if args.ddp_find_unused_parameters is None:
            # the projector of `scale: mlp` has no part in a stage of words, nor the head, maybe, in a text without labels
            mapped = any(True for _ in inside(model).scale.parameters())
            args.ddp_find_unused_parameters = mapped or on_policy is not None
        spelling = [term.name for term in self.objective.terms if isinstance(term, SpellingTerm)]
        end_id = getattr(tokenizer, "eos_token_id", None)
        collate = StageCollator(pad_id, train_dataset.curriculum, teaching, spelling, end_id)
        self.shard = shard
        balances = Balances(inside(model), self.objective.terms)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            data_collator=collate,
            callbacks=[StepFlow(self), *callbacks],
        )
        if use_cache is not None:
            config.use_cache = use_cache
        self.remove_callback(PrinterCallback)
        self.plan = train_dataset.plan
        self.teacher, self.teaching = teacher, teaching
        self.own_text: OwnText | None = None
        if on_policy is not None:
            self.own_text = OwnText(on_policy, train_dataset, collate, self._autocast)
        self.settings = settings
        self.scorer, self.validate_every, self.tokenizer = scorer, validate_every, tokenizer
        self.data_fingerprint = data_fingerprint
        self.progress = progress or Silent()
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True  # every loss is divided by the whole step's count
        self.stop_requested = False
        self.recorder = Recorder(
            self.plan,
            settings,
            Path(args.output_dir),
            args.device,
            self.accelerator.num_processes,
            self._over_ranks,
        )
        self.best = BestSteps(settings.keep_best, settings.best_by)
        self._micro = 0
        self._balances = balances
        self._begin_guarding()

    lr_scheduler: Any

    def _autocast(self) -> AbstractContextManager:
        """The precision that a step computes in, also where it is DeepSpeed that sees to it."""
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        if plugin is not None and "torch_autocast" in plugin.deepspeed_config:
            return torch.autocast(self.args.device.type, torch.bfloat16)
        return self.accelerator.autocast()

    # --- what a step is -----------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | None]:
        """The micro-batches of a step, and the valid positions of each term over all of them and all ranks."""
        self.watch.mark("data", self.state.global_step + 1)
        with span("data"):
            batches = list(itertools.islice(epoch_iterator, num_batches))
        if not batches:
            return [], None
        if self.own_text is not None:
            with span("own text"):
                batches = self.own_text(self.latent_model, batches)
        self._micro = 0
        return batches, self._over_ranks(
            torch.stack([self.objective.counts(batch) for batch in batches]).sum(0).to(device)
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The objective's share of one micro-batch. `num_items_in_batch` holds the counts of `get_batch_samples`."""
        counts = self.objective.counts(inputs) if num_items_in_batch is None else num_items_in_batch
        given = {key: value for key, value in inputs.items() if key not in _BESIDE}
        moment: Moment = inputs["moment"]
        taught = self._teacher_output(inputs)
        seed_slot(self.args.seed, inputs["slot"])
        output = model(
            **given,
            num_items_in_batch=counts[-1].clamp_min(1),  # the student's own text has no labels
            return_predictions=self.settings.accuracy,
            reading=self._chain(inputs, counts),
            capture=self.objective.student_layers,
            score=partial(
                self.objective, batch=inputs, counts=counts, teacher=taught, progress=moment.progress
            ),
            **self.objective.forward_options,
        )
        value = output.value
        if self.model.training:  # an engine's wrapper does not say
            first = self._micro == 0
            self._guard_micro_batch(inputs, value.total, first)
            self.recorder.observe(inputs, output, value, first)
            self._balances.add(value.parts)
            every = self.settings.gradient_norms
            if first and every and moment.step % every == 0:
                trained = [p for p in self.latent_model.parameters() if p.requires_grad]
                self.recorder.observe_norms(gradient_norms(value.weighted, trained))
            self._micro += 1
        # gradients are averaged over ranks, and each rank holds a share of the sum
        loss = value.total * self.accelerator.num_processes
        return (loss, output) if return_outputs else loss

    def _teacher_output(self, inputs: dict[str, Any]) -> TeacherOutput | None:
        if self.teacher is None or "teacher" not in inputs:
            return None
        with span("teacher"):
            states = self.teacher.states(inputs["teacher"], self.objective.teacher_layers)
        device = self.args.device
        return TeacherOutput({layer: state.to(device) for layer, state in states.items()}, self.teacher.head)

    def _chain(self, inputs: dict[str, Any], counts: Tensor) -> dict[str, Any] | None:
        """The whole chain of thought as arguments of a forward of its own, where the model teaches itself."""
        if "chain" not in inputs:
            return None
        index = self.objective.chain_term
        given = {key: value for key, value in inputs["chain"].items() if key not in _BESIDE}
        if index is None:
            del given["labels"]
            return given
        return {**given, "num_items_in_batch": counts[index].clamp_min(1)}

    # --- learning rate and optimizer ----------------------------------------------------------------------------------

    def rate_factor(self, step: int) -> float:
        """Learning rate of a step index, as a share of the recipe's."""
        return self.settings.rate_factor(self.plan.at(step))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As Trainer's, with companions that have a learning rate of their own in groups of their own."""
        optimizer = super().create_optimizer(model) if model is not None else super().create_optimizer()
        split_groups(optimizer, self.latent_model.companions, self.objective.learning_rates)
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        if self.lr_scheduler is None:
            # a plain function: the state of a callable object would be saved, and is not ours to restore
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: self.rate_factor(step))
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def begin_step(self, step: int) -> None:
        """Before a step: the rate is set, a leg measures its scale target, and may forget the optimizer's moments."""
        moment = self.plan.at(step)
        # a step that the loss scale has skipped counts for the plan, and Trainer's schedule would lag behind it
        set_rate_step(self.lr_scheduler, step)
        if moment.starts_leg:
            with at_hand(self.model):
                self.latent_model.measure_scale()
            self.recorder.start_leg()
            self.guard.start_leg()
            self.best.start_leg()
        if self.plan.resets_optimizer(step):
            clear_optimizer(self.optimizer)

    def end_step(self, done: int) -> tuple[bool, bool]:
        """After `done` steps: whether to save, and whether to stop."""
        self._balances.end_step(self._over_ranks if self._settle_step(done) else None)
        asked = self._asked_to_stop()
        over = done >= self.plan.end
        due = bool(self.settings.save_every) and done % self.settings.save_every == 0
        self.progress.step(done, self.plan.end, self.plan.at(done - 1).name)
        return due or asked or over, asked or over

    # --- reports ------------------------------------------------------------------------------------------------------

    def _maybe_log_save_evaluate(
        self, tr_loss: Tensor, grad_norm: Tensor | float | None, *arguments: Any, **keywords: Any
    ) -> None:
        done = self.state.global_step
        over = done >= self.plan.end
        validate = self.scorer is not None and (
            over or (bool(self.validate_every) and done % self.validate_every == 0)
        )
        fresh = done > self.recorder.last.get("step", 0)
        due = self.control.should_save or done % self.settings.log_every == 0 or over or validate
        self._guard_step(done, grad_norm, due)
        if fresh and (done % self.settings.log_every == 0 or over or validate):
            self._report(done, grad_norm, validate)
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *arguments, **keywords)

    def _report(self, done: int, grad_norm: Tensor | float | None, validate: bool) -> None:
        norm = None if grad_norm is None else float(grad_norm)
        row = self.recorder.row(done, self.train_dataset.epoch_of(done), norm)
        if validate:
            row.update(self._validate(self.plan.at(done - 1)))
            self._rank(done, row)
        if self.is_world_process_zero():
            self.recorder.file.write(row)
            self.progress.metrics(row)
            if "decision" in row:
                self.progress.say(f"step {done}: {row['decision']}")
        self.state.epoch = row["epoch"]  # trackers are told this one, and Trainer's is the share of the run
        self.log({key: float(v) for key, v in row.items() if isinstance(v, (int, float)) and key != "step"})
        self.state.log_history.clear()  # the lines are in metrics.jsonl; here they would only make checkpoints grow

    def _validate(self, moment: Moment) -> dict[str, float]:
        # where weights are spread over the ranks all of them score the same rows, step by step together
        self.watch.mark("validation")
        if self.scorer is None or not (self.is_world_process_zero() or sharded()):
            return {}
        with at_hand(self.model), plain(self.latent_model):
            return scores(
                self.scorer, self.latent_model, self.tokenizer, self.train_dataset.curriculum, moment
            )

    def _rank(self, done: int, row: dict[str, Any]) -> None:
        """Where the validation is among the best so far, a checkpoint is due; the first process's scores count."""
        if not self.settings.keep_best:
            return
        problem = self.best.problem_with(row) if self.is_world_process_zero() else None
        known = problem is None and self.is_world_process_zero()
        mine = [self.best.read(row) if known else 0.0, float(problem is not None)]
        value, failed = self._over_ranks(
            torch.tensor(mine, dtype=torch.float64, device=self.args.device)
        ).tolist()
        if failed:  # all of them have to learn of it
            raise ConfigError(problem) if problem else StoppedElsewhere(ConfigError.exit_code)
        self.control.should_save = self.best.offer(done, value) or self.control.should_save

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # a count over all parameters at every micro-batch, for a number that leaves thoughts out
