"""Evaluate a model on a task: prompt as trained, generate, judge, count, with the controls that make the number believable.

Samples are appended batch by batch, so a killed run loses at most a batch and is resumed by `resume=True`: batches are formed
as in an uninterrupted run and seeded by their own content, whole ones are passed over. `results.json` is written last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentthought.data.encoding import Encoder, FormatConfig
from latentthought.data.example import Example, ExampleSet
from latentthought.data.sources import SourceConfig
from latentthought.errors import ConfigError
from latentthought.evaluation.generation import (
    Completion,
    Decoding,
    Generator,
    Request,
    check_decoding,
    controls_for,
)
from latentthought.evaluation.judging import describe, judge
from latentthought.evaluation.progress import Progress
from latentthought.evaluation.provenance import git_state, recipe_of, versions, weights_fingerprint
from latentthought.evaluation.results import Results, correctness, result_folder, summarize
from latentthought.evaluation.samples import Sample, SampleFile
from latentthought.evaluation.statistics import paired_difference
from latentthought.evaluation.tasks import TaskConfig, load_data, load_task
from latentthought.grading import Extraction, Verdict

_SAMPLING_TEMPERATURE = 0.7


def evaluate(
    model: Any,
    task: str | Path | TaskConfig,
    *,
    tokenizer: Any = None,
    data: str | Path | SourceConfig | ExampleSet | list[Example] | None = None,
    limit: int | None = None,
    thoughts: Any = None,
    mix_ratio: float | None = None,
    control: str = "none",
    samples: int = 1,
    temperature: float | None = None,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    progress: bool = True,
    smoke: bool = False,
    **generate: Any,
) -> Results:
    """Score `model` on `task`, greedily by default.

    Args:
        model: a LatentThought model, or any Hugging Face causal LM (text only). tokenizer: None loads the one beside it.
        task: a name, a YAML file, or a `TaskConfig`. data: other rows in the form of the task's source. limit: first rows only.
        thoughts, mix_ratio: as in `model.generate`; None is what the model was trained with.
        control: none, no-thought, pause, shuffled, noised; or all, which runs every one that applies to the model, compares
            each with none, and returns the results of none with the others in `.controls`.
        samples: completions a question; more than one samples at `temperature` (0.7 when not given).
        output: a run folder; results go to `results/<task>/<control>/` below it. None keeps them in memory.
        resume: go on with what `output` holds; refused when task, version, control, seed, data or settings differ.
        smoke: the source's own made-up rows instead of the real data.
        **generate: anything else for `model.generate`.

    Raises: `UserError`s for a bad task, setting, data row or folder; never for anything the model writes.
    """
    task = load_task(task)
    if samples < 1:
        raise ConfigError(f"samples: at least 1 (got {samples})")
    if samples > 1 and temperature is None:
        temperature = _SAMPLING_TEMPERATURE
    if resume and output is None:
        raise ConfigError("resume: needs the output folder to go on with")
    if control == "all":
        controls = controls_for(model, thoughts, mix_ratio)
    else:
        controls = (control,)
    decodings = [
        Decoding(
            max_new_tokens or task.max_new_tokens, thoughts, mix_ratio, name, temperature, seed, generate
        )
        for name in controls
    ]
    for decoding in decodings:
        check_decoding(model, decoding)
    examples = load_data(task, data, limit, seed=seed, smoke=smoke)
    run = _Run(
        model,
        tokenizer or _tokenizer_of(model),
        task,
        examples,
        samples,
        batch_size,
        Path(output) if output else None,
        resume,
    )
    found: dict[str, Results] = {}
    plain: dict[Any, list[float]] = {}
    for decoding in decodings:
        results, right = run.control(
            decoding, plain if control == "all" and decoding.control != "none" else None, progress
        )
        found[decoding.control] = results
        if decoding.control == "none":
            plain = right
    first = found[controls[0]]
    return first.model_copy(update={"controls": found}) if control == "all" else first


class _Run:
    """What all controls of one evaluation share."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: TaskConfig,
        examples: ExampleSet,
        samples: int,
        batch_size: int | None,
        output: Path | None,
        resume: bool,
    ):
        self.model, self.tokenizer, self.task, self.examples = model, tokenizer, task, examples
        self.batch_size, self.output, self.resume = batch_size, output, resume
        self.samples = samples
        self.format: FormatConfig = task.format_for(model)
        encoder = Encoder(tokenizer, self.format, spans=False)
        prompts = [encoder.prompt_ids(example) for example in examples]
        self.requests = [
            Request(index, sample, prompt)
            for sample in range(samples)
            for index, prompt in enumerate(prompts)
        ]
        end_token = getattr(getattr(model, "thought", None), "end_token", None)
        self.thought_ends = tuple(dict.fromkeys(mark for mark in ("</think>", end_token) if mark))
        self.name = str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__)

    def control(
        self, decoding: Decoding, plain: Mapping[Any, list[float]] | None, progress: bool
    ) -> tuple[Results, dict[Any, list[float]]]:
        """Results of one control, and who was right; `plain`: who was right without a control."""
        settings = self._settings(decoding)
        folder = result_folder(self.output, self.task.name, decoding.control) if self.output else None
        file = SampleFile(folder, settings, self.resume)
        keys = {
            (request.index, request.sample): (self.examples[request.index].id, request.sample)
            for request in self.requests
        }
        for request in self.requests:
            file.check_prompt(keys[request.index, request.sample], request.prompt_hash)
        done = {place for place, key in keys.items() if key in file.done}
        generator = Generator(self.model, self.tokenizer, decoding, self.batch_size)
        label = f"{self.task.name} ({decoding.control})"
        with evaluating(self.model), Progress(label, len(self.requests), len(done), progress) as bar:
            for batch in generator.run(self.requests, done):
                judged = [self._judge(request, completion, decoding) for request, completion in batch]
                file.append(judged)
                bar.add(judged)
        ordered = [file.done[key] for key in keys.values()]
        right = correctness(ordered)
        results = Results(
            task=self.task.name,
            version=self.task.version,
            control=decoding.control,
            model=self.name,
            **summarize(ordered, self.task.metrics),
            against_none=paired_difference(plain, right) if plain is not None else None,
            settings=settings,
            data=self._data(),
            grading=describe(self.task, self.thought_ends),
            versions=versions(),
            seed=decoding.seed,
            git=git_state(),
            recipe=recipe_of(self.name),
        )
        if folder is not None:
            results.save(folder)
        return results, right

    def _judge(self, request: Request, completion: Completion, decoding: Decoding) -> Sample:
        example = self.examples[request.index]
        text = decode(self.tokenizer, completion.ids)
        verdict, scores = judge(text, example, self.task, self.thought_ends)
        if (
            completion.problem
        ):  # judged all the same: an answer that was never given has scores too, and they are zero
            verdict = Verdict("ungradable", completion.problem, Extraction(None, "none"))
        return Sample(
            task=self.task.name,
            version=self.task.version,
            id=example.id,
            sample=request.sample,
            seed=decoding.seed,
            control=decoding.control,
            prompt_hash=request.prompt_hash,
            completion=text,
            gold=example.answer,
            extraction=verdict.extraction,
            verdict=verdict,
            thoughts=completion.thoughts,
            tokens=len(completion.ids),
            milliseconds=round(completion.milliseconds, 3),
            groups={key: str(example.meta[key]) for key in self.task.groups if key in example.meta},
            scores={name: value for name, value in scores.items() if name in self.task.metrics},
        )

    def _settings(self, decoding: Decoding) -> dict[str, Any]:
        """What must not change between a run and its resumption."""
        return {
            "task": self.task.name,
            "version": self.task.version,
            "control": decoding.control,
            "seed": decoding.seed,
            "model": self.name,
            "weights": weights_fingerprint(self.model),
            "thoughts": decoding.thoughts
            if isinstance(decoding.thoughts, (int, type(None)))
            else str(decoding.thoughts),
            "mix_ratio": decoding.mix_ratio,
            "samples": self.samples,
            "temperature": decoding.temperature,
            "max_new_tokens": decoding.max_new_tokens,
            "generate": {name: str(value) for name, value in decoding.options.items()},
            "format": self.format.dump(),
            "questions": len(self.examples),
            "data": self.examples.fingerprint,
        }

    def _data(self) -> dict[str, Any]:
        return {
            "origin": self.examples.origin,
            "questions": len(self.examples),
            "fingerprint": self.examples.fingerprint,
            "skipped": dict(self.examples.skip_counts),
        }


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of new tokens without end and padding; marks of reasoning stay, because the grader cuts at them."""
    dropped = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}
    return str(tokenizer.decode([token for token in ids if token not in dropped], skip_special_tokens=False))


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode; every module's own mode comes back afterwards."""
    modules = list(model.modules()) if hasattr(model, "modules") else []
    modes = [module.training for module in modules]
    if modules:
        model.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _tokenizer_of(model: Any) -> Any:
    from transformers import AutoTokenizer

    name = getattr(getattr(model, "config", None), "name_or_path", "")
    if not name:
        raise ConfigError("tokenizer: this model does not say where it came from; give its tokenizer")
    return AutoTokenizer.from_pretrained(name)
