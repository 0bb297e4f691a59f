"""transformers' `TrainingArguments` for a run: what Trainer does itself is set, what we do is turned off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from latentthought.errors import ConfigError, MissingExtraError, unknown
from latentthought.training.optimization import TrainingConfig


def settings_of(args: TrainingArguments) -> TrainingConfig:
    """The settings that arguments of somebody else's making imply: batch, rate, warm-up, length; saving at the end only.

    Their decay (`lr_scheduler_type`) is not taken over: a curriculum has its own.
    """
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return TrainingConfig(
        batch_size=rows,
        learning_rate=args.learning_rate,
        warmup_steps=args.get_warmup_steps(max(args.max_steps, 0)),
        max_steps=args.max_steps if args.max_steps > 0 else None,
        save_every=0,
    )


def check_trackers(names: Iterable[str]) -> None:
    """Raise `ConfigError` for a tracker that transformers does not know, `MissingExtraError` for one that is not installed."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK as known

    for name in names:
        if name not in known:
            raise ConfigError(f"training.report_to: {unknown('tracker', name, known)}")
        try:
            known[name]()
        except (RuntimeError, ImportError) as error:
            raise MissingExtraError(f"training.report_to: {' '.join(str(error).split())}") from None


def arguments(
    settings: TrainingConfig,
    engine: Mapping[str, Any],
    output: Path,
    seed: int,
    steps: int,
    zero: dict[str, Any] | None = None,
) -> TrainingArguments:
    """transformers' arguments for a run.

    engine: `EngineConfig.arguments(...)`. steps: the most that it can take. zero: DeepSpeed's settings (`training.zero`).
    """
    optimizers = {"adamw": "adamw_torch_fused", "adafactor": "adafactor", "sgd": "sgd"}
    result = TrainingArguments(
        output_dir=str(output),
        max_steps=steps,
        learning_rate=settings.learning_rate,
        optim=optimizers[settings.optimizer],
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.max_grad_norm,
        seed=seed,
        report_to=list(settings.report_to) or "none",
        run_name=settings.run_name,
        # stages, logging and saving are ours
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        logging_nan_inf_filter=False,  # it waits for the device at every micro-batch
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_num_workers=0,  # a decision reaches the data two steps on; workers would draw further ahead
        dataloader_pin_memory=not engine["use_cpu"],
        label_names=["labels"],
        deepspeed=zero,
        **engine,
    )
    if result.n_gpu > 1:
        # several GPUs are several processes; DataParallel would split a batch behind the thought columns' back
        result._n_gpu = 1
    return result
