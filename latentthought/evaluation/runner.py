"""Evaluate a model on a task: prompt as trained, generate, judge, count, with the controls that make the number believable.

Samples are appended batch by batch, so a killed run loses at most a batch and is resumed by `resume=True`: batches are formed
as in an uninterrupted run and seeded by their own content, whole ones are passed over. Several processes take the batches in
turn; the first one brings the samples together. `results.json` is written last.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentthought.data.example import Example, ExampleSet
from latentthought.data.sources import SourceConfig
from latentthought.errors import ConfigError, LatentThoughtError
from latentthought.evaluation.backoff import Backoff
from latentthought.evaluation.decoding import Decoding, check_decoding, controls_for
from latentthought.evaluation.few_shot import Prompter
from latentthought.evaluation.generation import Completion, Generator, Request, batches, plan
from latentthought.evaluation.judging import describe, extractions, judge
from latentthought.evaluation.measures import check_samples
from latentthought.evaluation.models import (
    PeakMemory,
    evaluating,
    name_of,
    thought_ends_of,
    tokenizer_of,
)
from latentthought.evaluation.progress import Progress
from latentthought.evaluation.provenance import git_state, recipe_of, settings_of, versions
from latentthought.evaluation.results import Results, correctness, result_folder, summarize
from latentthought.evaluation.samples import RESULTS, Sample, SampleFile, require_free
from latentthought.evaluation.statistics import paired_difference
from latentthought.evaluation.tasks import TaskConfig, load_data, load_task, require_groups
from latentthought.grading import Extraction, Verdict
from latentthought.processes import ALONE, Group

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
    group: Group = ALONE,
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
        group: the processes that share the work (`Group.join()`, inside its `guard`); all of them call with the same arguments
            and see the same `output`. The results are those of one process, but for timings.
        **generate: anything else for `model.generate`.

    Raises: `UserError`s for a bad task, setting, data row or folder; never for anything the model writes.
    """
    task = load_task(task)
    if samples < 1:
        raise ConfigError(f"samples: at least 1 (got {samples})")
    check_samples(task.metrics, samples)
    if samples > 1 and temperature is None:
        temperature = _SAMPLING_TEMPERATURE
    if resume and output is None:
        raise ConfigError("resume: needs the output folder to go on with")
    if group.count > 1 and output is None:
        raise ConfigError("output: several processes need a folder, where their samples come together")
    controls = controls_for(model, thoughts, mix_ratio) if control == "all" else (control,)
    decodings = [
        Decoding(
            max_new_tokens or task.max_new_tokens, thoughts, mix_ratio, name, temperature, seed, generate
        )
        for name in controls
    ]
    for decoding in decodings:
        check_decoding(model, decoding)
    if (
        output is not None and not resume and group.first
    ):  # the last control's folder as well as the first one's
        for decoding in decodings:
            require_free(result_folder(Path(output), task.name, decoding.control))
    group.exchange()
    examples = load_data(task, data, limit, seed=seed, smoke=smoke)
    require_groups(task, examples)
    shots = task.few_shot.draw(task.data, seed=seed, smoke=smoke)
    run = _Run(model, tokenizer or tokenizer_of(model), task, examples, shots, samples, group)
    run.batch_size, run.output, run.resume = batch_size, Path(output) if output else None, resume
    found: dict[str, Results] = {}
    plain: dict[Any, list[float]] = {}
    for decoding in decodings:
        compared = plain if control == "all" and decoding.control != "none" else None
        results, right = run.control(decoding, compared, progress)
        found[decoding.control] = results
        if decoding.control == "none":
            plain = right
    first = found[controls[0]]
    return first.model_copy(update={"controls": found}) if control == "all" else first


class _Run:
    """What all controls of one evaluation share."""

    batch_size: int | None = None
    output: Path | None = None
    resume = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        task: TaskConfig,
        examples: ExampleSet,
        shots: list[Example],
        samples: int,
        group: Group,
    ):
        self.model, self.tokenizer, self.task, self.examples = model, tokenizer, task, examples
        self.shots, self.samples, self.group = shots, samples, group
        self.format = task.format_for(model)
        prompter = Prompter(tokenizer, self.format, task.few_shot, shots)
        prompts = [prompter.ids(example) for example in examples]
        self.requests = [
            Request(index, sample, prompt)
            for sample in range(samples)
            for index, prompt in enumerate(prompts)
        ]
        self.by_id = {example.id: example for example in examples}
        self.stops = task.stops(self.format)
        self.thought_ends = thought_ends_of(model)
        self.name = name_of(model)

    def control(
        self, decoding: Decoding, plain: Mapping[Any, list[float]] | None, progress: bool
    ) -> tuple[Results, dict[Any, list[float]]]:
        """Results of one control, and who was right (at the first process); `plain`: who was right without a control."""
        settings = settings_of(
            self.task, decoding, self.model, self.examples, self.samples, self.format, self.shots
        )
        folder = result_folder(self.output, self.task.name, decoding.control) if self.output else None
        with self._opened(folder, settings) as file:
            memory = self._generate(file, decoding, progress)
            if not self.group.first:
                return Results.parse(self.group.exchange()[0]), {}
            if memory is None and folder is not None:
                memory = _memory_before(folder)
            ordered = file.merged([self._key(request) for [request] in batches(self.requests, 1)])
        right = correctness(ordered)
        results = Results(
            task=self.task.name,
            version=self.task.version,
            control=decoding.control,
            model=self.name,
            **summarize(
                ordered,
                self.task.metrics,
                lambda sample: self.task.policy_for(self.by_id[sample.id]),
                memory,
            ),
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
        self.group.exchange(results.dump())
        return results, right

    def _opened(self, folder: Path | None, settings: Mapping[str, Any]) -> SampleFile:
        """The samples file of this process; what is there already is read and checked by the first one alone."""
        if not self.group.first:
            known = self.group.exchange()[0]
            file = SampleFile(folder, settings, self.resume, self.group.rank)
            file.known = {(question, sample) for question, sample in known["known"]}
            file.batching = known["batching"]
            return file
        file = SampleFile(folder, settings, self.resume)
        keys = {self._key(request) for request in self.requests}
        for key in file.known - keys:
            raise ConfigError(
                f"{folder}: holds a sample of {key[0]!r}, which is not asked now; choose another output folder"
            )
        for request in self.requests:
            file.check_prompt(self._key(request), request.prompt_hash)
        self.group.exchange({"known": sorted(file.known), "batching": file.batching})
        return file

    def _generate(self, file: SampleFile, decoding: Decoding, progress: bool) -> int | None:
        """Make and judge what is not there yet of this process's share; the most memory that a process needed for it."""
        generator = Generator(self.model, self.tokenizer, decoding, self.batch_size, self.stops)
        done = {
            (request.index, request.sample) for request in self.requests if self._key(request) in file.known
        }
        group = self.group
        backoff = self._backoff(file, generator)
        planned = plan(self.requests, backoff.size, done, group.rank, group.count)
        label = f"{self.task.name} ({decoding.control})"
        if group.count > 1:
            label += f", process 1 of {group.count}"
        total = sum(map(len, planned.values()))
        peak = PeakMemory(generator.device)
        # the first process shows its own share, of which the others have as much
        with evaluating(self.model), Progress(label, total, progress and group.first) as bar:
            for batch in generator.run(self.requests, planned, backoff):
                group.check()
                judged = [
                    self._judge(request, completion, generator.text(completion.ids), decoding)
                    for request, completion in batch
                ]
                file.append(judged)
                bar.add(len(judged), sum(sample.verdict.correct for sample in judged))
        peaks = group.exchange(peak.read() if planned else None)
        return max((bytes_held for bytes_held in peaks if bytes_held), default=None)

    def _backoff(self, file: SampleFile, generator: Generator) -> Backoff:
        """How many rows go together: as in the run that is resumed, unless another number is asked for now."""
        # the same for all processes, by the one with the least memory
        size = min(self.group.exchange(generator.size_for(self.requests)))
        before = file.batching
        if before and self.batch_size in (None, before["size"]):
            backoff = Backoff(before["size"], before["halved"], file.remember)
        else:
            backoff = Backoff(size, noted=file.remember)
        file.remember(backoff.state)
        return backoff

    def _key(self, request: Request) -> tuple[str, int]:
        return self.examples[request.index].id, request.sample

    def _judge(self, request: Request, completion: Completion, text: str, decoding: Decoding) -> Sample:
        example = self.examples[request.index]
        verdict, scores = judge(text, example, self.task, self.thought_ends)
        found = extractions(text, example, self.task, self.thought_ends, verdict)
        if completion.problem:  # judged all the same: an answer never given has scores too, and they are zero
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
            extractions=found,
        )

    def _data(self) -> dict[str, Any]:
        return {
            "origin": self.examples.origin,
            "questions": len(self.examples),
            "longest_prompt": max(len(request.prompt) for request in self.requests),
            "fingerprint": self.examples.fingerprint,
            "skipped": dict(self.examples.skip_counts),
        }


def _memory_before(folder: Path) -> int | None:
    """What a finished run measured, where its resumption had nothing to do that could be measured."""
    try:
        return Results.load(folder / RESULTS).costs.peak_memory
    except LatentThoughtError:  # never finished, or of another version
        return None
