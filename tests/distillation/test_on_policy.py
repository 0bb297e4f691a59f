"""On-policy distillation: what the student writes, and who reads it how."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from latentthought.config import merge
from latentthought.data.curriculum import Curriculum
from latentthought.distillation.drawing import Draws, uniform_numbers
from latentthought.distillation.on_policy import OnPolicyConfig
from latentthought.distillation.own_rows import OwnRows, Task
from latentthought.distillation.reader import Reader, whole_text
from latentthought.distillation.teaching import LiveTeaching
from latentthought.errors import ConfigError
from latentthought.objective.alignment import align, sites
from latentthought.objective.comparison import Depths
from latentthought.objective.total import Objective
from latentthought.recipe import Recipe
from latentthought.thoughts.layout import Region, ThoughtTokens
from latentthought.training.dataset import StageCollator
from latentthought.training.own_text import OwnText
from latentthought.training.preparation import prepare
from latentthought.training.progress import Silent
from latentthought.training.run import train
from tests.distillation.taught import FORMAT, examples, tokenizer
from tests.training.test_resume import metrics_of

TEACHER = {"scratch": {"architecture": "llama", "layers": 3, "width": 24, "heads": 2, "max_positions": 64}}
OWN = {"share": 1.0, "temperature": 0.7, "max_new_tokens": 6}
KL = {"term": "kl", "direction": "reverse", "temperature": 2.0}
HIDDEN = {
    "term": "hidden",
    "target": "teacher",
    "alignment": "step_ends",
    "layers": "middle_final",
    "projector": {"kind": "linear"},
}
SGD = {"optimizer": "sgd", "learning_rate": 0.1, "warmup_steps": 0, "log_every": 1, "max_grad_norm": 0.0}
SOFT = {"method": "soft_mix", "mix": 0.5, "max_latent_steps": None, "reset_optimizer": False, "replay": 0.0}
GENTLE = {"learning_rate": 0.01}  # rounding stays small beside what is learnt
KINDS: dict[str, dict[str, Any]] = {
    "latent": {},
    "padded": {"pad_to_max": False},
    "enclosed": {"enclose": "reasoning"},
    "pause": {"method": "pause"},
    "removal": {"method": "removal"},
    # sequential, as text is written; by single_pass, the default, states are near those
    "soft": {**SOFT, "stages": [{"mix": 0.5, "steps": 3, "feedback": "sequential"}]},
}
LAST_STAGE = {"stages": [{"latent_steps": 1, "steps": 3}]}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Recipe]:
    """`make(training={...})`: a tiny llama on rows of one or two steps, taught on its own text in every step."""
    rows = [
        {"question": f"{a} {b}", "steps": [f"{a} first", f"{b} second"][: 1 + i % 2], "answer": f"yes {a}"}
        for i, (a, b) in enumerate((a, b) for a in "abcd" for b in "efghij")
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sizes = {"layers": 2, "width": 16, "heads": 2, "max_positions": 64, "initializer_range": 0.3}
    values: dict[str, Any] = {
        "seed": 3,
        "model": {"scratch": {"architecture": "llama", **sizes}},
        "teacher": {**TEACHER, "on_policy": OWN},
        "data": {"source": "file", "path": str(file)},
        "curriculum": {"method": "latent", "max_latent_steps": 2, "each": {"steps": 2}},
        "objective": [{"term": "ce"}, KL, HIDDEN],
        "training": {**SGD, "batch_size": 8, "save_every": 5},
        "engine": {"device": "cpu", "micro_batch_size": 4, "threads": 1},
    }
    return lambda **changes: Recipe.parse(merge(values, changes))


def written(prepared: Any, slots: range) -> tuple[list[Task], Any]:
    """What the student writes in some slots at its first weights."""
    model = prepared.model.eval()
    model.measure_scale()
    found = [prepared.dataset[slot] for slot in slots]
    tasks = [Task(slot.number, slot.lesson.place, slot.reading.row) for slot in found]
    with torch.no_grad():
        return tasks, prepared.guidance.on_policy.write(model, tasks, found[0].moment.mix)


def written_alone(prepared: Any, task: Task, mix: float) -> tuple[list[int], list[int]]:
    """The same for one row by plain forwards, from nothing each time: no cache, no batch, no `generate`. Its ids, and the
    places whose input is a state."""
    model, curriculum = prepared.model, prepared.recipe.curriculum
    thought, settings = model.thought, prepared.recipe.teacher.on_policy
    encoded = prepared.dataset.rows[task.place]
    closes = curriculum.enclose == "reasoning" or curriculum.method == "soft_mix"
    count = task.row.regions.count(Region.THOUGHT)
    ids, fed = list(encoded.prompt), []
    if count or closes:
        ids += [thought.start_token_id]
        fed = list(range(len(ids), len(ids) + count)) if curriculum.method == "latent" else []
        ids += [thought.thought_token_id] * count
        ids += [] if closes else [thought.end_token_id]
    known = set(prepared.tokenizer.get_vocab().values())
    words = known - {thought.start_token_id, thought.thought_token_id, thought.end_token_id}
    words = sorted(words | ({thought.end_token_id} if closes else set()))
    numbers, inside, closed = random.Random(f"3 write {task.slot}"), True, False
    for _ in range(settings.max_new_tokens):
        mask = torch.zeros(1, len(ids), dtype=torch.bool)
        mask[0, fed] = True
        with torch.no_grad():
            logits = model(torch.tensor([ids]), thought_mask=mask, mix_ratio=mix).logits[0, -1]
        chances = (logits[words].double() / settings.temperature).softmax(-1).tolist()
        number = numbers.random()
        token = words[-1]
        for word, chance in zip(words, chances, strict=True):
            number -= chance
            if number < 0:
                token = word
                break
        if token == thought.end_token_id:
            if closed:
                break
            inside, closed = False, True
        elif curriculum.method == "soft_mix" and inside:
            fed.append(len(ids))
        ids.append(token)
        if token == prepared.tokenizer.eos_token_id:
            break
    return ids, fed


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_prompt_thoughts_and_what_the_student_writes(make, kind: str) -> None:
    curriculum = {**(LAST_STAGE if kind != "soft" else {}), **KINDS[kind]}
    prepared = prepare(make(curriculum=curriculum))
    tasks, own = written(prepared, range(8))
    mix = 0.5 if kind == "soft" else 1.0
    assert len({tuple(reading.row.ids) for reading in own.readings}) == 8
    for task, reading, length in zip(tasks, own.readings, own.lengths, strict=True):
        ids, fed = written_alone(prepared, task, mix)
        assert reading.row.ids == ids
        assert [place for place, state in enumerate(reading.row.thought) if state] == fed
        assert set(reading.row.labels) == {-100}
        assert 1 <= length <= 6


def test_words_of_a_row_do_not_depend_on_the_batch(make) -> None:
    prepared = prepare(make(curriculum=LAST_STAGE))
    _, together = written(prepared, range(8))
    for slot in range(8):
        _, alone = written(prepared, range(slot, slot + 1))
        assert alone.readings[0].row == together.readings[slot].row


def test_a_models_own_taste_in_decoding_has_no_part(make) -> None:
    prepared = prepare(make(curriculum=LAST_STAGE))
    _, wanted = written(prepared, range(8))
    taste = {"do_sample": True, "temperature": 0.1, "top_p": 0.5, "top_k": 2}
    taste |= {"repetition_penalty": 3.0, "no_repeat_ngram_size": 1, "min_new_tokens": 5}
    prepared.model.generation_config.update(**taste)
    _, found = written(prepared, range(8))
    assert [reading.row for reading in found.readings] == [reading.row for reading in wanted.readings]


@pytest.mark.parametrize("kind", ["latent", "enclosed", "soft", "removal"])
@pytest.mark.parametrize("teacher", ["another", "self"])
def test_the_divergence_equals_a_computation_row_by_row(
    make, tmp_path: Path, kind: str, teacher: str
) -> None:
    """Each model reads each row alone; the teacher's row is put together here, from the pieces of the data."""
    who = {"scratch": None, "model": "self"} if teacher == "self" else {}
    curriculum = {**(LAST_STAGE if kind != "soft" else {}), **KINDS[kind]}
    recipe = make(
        curriculum=curriculum,
        teacher=who,
        objective=[{"term": "ce"}, KL],
        training={"max_steps": 1},
        engine={"micro_batch_size": 2},
    )
    train(recipe, tmp_path / "run", progress=Silent())
    prepared = prepare(recipe)
    tasks, own = written(prepared, range(8))
    student = prepared.model
    taught = student.base if teacher == "self" else prepared.guidance.teacher.model.base
    end, divergences = student.thought.end_token_id, []
    known = max(prepared.tokenizer.get_vocab().values()) + 1
    for task, reading, length in zip(tasks, own.readings, own.lengths, strict=True):
        ids, encoded = reading.row.ids, prepared.dataset.rows[task.place]
        text, gold = ids[len(ids) - length :], encoded.steps[: task.row.first_step]
        # where delimiters enclose all reasoning the teacher has them too; those of a soft mix are no words to it
        start = [student.thought.start_token_id] if kind == "enclosed" else []
        front = [*encoded.prompt, *start, *(token for step in gold for token in step)]
        theirs = front + [token for token in text if token != end or kind == "enclosed"]
        mask = torch.tensor([reading.row.thought])
        mix = 0.5 if kind == "soft" else 1.0
        with torch.no_grad():
            mine = student(torch.tensor([ids]), thought_mask=mask, mix_ratio=mix).logits[0]
            other = taught(torch.tensor([theirs])).logits[0]
        for place in range(length):
            if text[place] == end:
                continue
            skipped = 1 if end in text[:place] and kind == "soft" else 0
            q = (mine[len(ids) - length + place - 1, :known] / 2).log_softmax(-1)
            p = (other[len(front) + place - skipped - 1, :known] / 2).log_softmax(-1)
            divergences.append(4 * float((q.exp() * (q - p)).sum()))
    first = metrics_of(tmp_path / "run")[0]
    assert first["loss_kl"] == pytest.approx(sum(divergences) / len(divergences), rel=1e-4)
    assert first["own_tokens"] == pytest.approx(sum(own.lengths) / 8)


def test_states_are_compared_where_the_student_thought(make, tmp_path: Path) -> None:
    recipe = make(curriculum=LAST_STAGE, objective=[{"term": "ce"}, HIDDEN], training={"max_steps": 1})
    train(recipe, tmp_path / "run", progress=Silent())
    prepared = prepare(recipe)
    tasks, own = written(prepared, range(8))
    model, guidance = prepared.model, prepared.guidance
    distances = []
    for task, reading in zip(tasks, own.readings, strict=True):
        encoded, row = prepared.dataset.rows[task.place], reading.row
        theirs = [*encoded.prompt, *encoded.steps[0]]
        assert row.thought.count(True) == 1
        with torch.no_grad():
            mine = model(
                torch.tensor([row.ids]), thought_mask=torch.tensor([row.thought]), capture=(1, -1)
            ).captured
            found = guidance.teacher.model.base(torch.tensor([theirs]), output_hidden_states=True)
            for place, (s, t) in enumerate(guidance.objective.layer_pairs["hidden"]):
                projected = model.companions["hidden"].maps[place](mine[s][0, row.thought.index(True)])
                target = found.hidden_states[t][0, -1]
                distances.append(
                    F.mse_loss(projected, target) + 1 - F.cosine_similarity(projected, target, dim=0)
                )
    logged = metrics_of(tmp_path / "run")[0]["loss_hidden"]
    assert logged == pytest.approx(float(sum(distances) / len(distances)), rel=1e-5)


def own_rows(curriculum: Curriculum, reads: Curriculum) -> OwnRows:
    """Rows of one, two, ... steps, for a student and a teacher of one tokenizer."""
    words, tokens = tokenizer(), ThoughtTokens(390, 391, 392)
    reader = Reader(words, FORMAT, reads, tokens)
    read = reader.read(examples())
    objective = Objective([{"term": "kl"}], Depths(1, 1))
    encoded = [reading.encoded for reading in read.readings]
    teaching = LiveTeaching(objective, encoded, read.readings, reader.collate)
    return OwnRows(teaching, reader, curriculum, tokens, {1})


ENCLOSED = Curriculum(
    method="latent",
    thoughts_per_step=2,
    max_latent_steps=2,
    enclose="reasoning",
    each={"steps": 1},  # type: ignore[arg-type]
)


@pytest.mark.parametrize("reads", ["text", "thoughts"])
def test_thoughts_that_fill_a_row_up_stand_for_no_word_of_the_student(reads: str) -> None:
    """A row of one step with the thoughts of two: its words are a step of their own, the second thoughts lack a partner."""
    rows = own_rows(ENCLOSED, whole_text(ENCLOSED) if reads == "text" else ENCLOSED)
    place = next(i for i, encoded in enumerate(rows.teaching.rows) if len(encoded.steps) == 1)
    encoded = rows.teaching.rows[place]
    row = ENCLOSED.layout(encoded, 2, None, rows.tokens)
    student, teacher = rows.read(Task(0, place, row), [21, 22, 391, 23])
    assert student.row.ids == [*encoded.prompt, 390, *[392] * 4, 21, 22, 391, 23]
    before = encoded.steps[0] if reads == "text" else [392] * 4
    assert teacher.row.ids == [*encoded.prompt, 390, *before, 21, 22, 391, 23]

    def pairs(rule: Any) -> list[tuple[int, int]]:
        mine, theirs = sites(student, rule), sites(teacher, rule)
        chosen, partners = align(mine.keys_N, theirs.keys_N)
        ends = (mine.stops_N[chosen] - 1, theirs.stops_N[partners] - 1)
        return list(zip(*(side.tolist() for side in ends), strict=True))

    start, other = len(encoded.prompt) + 1, len(encoded.prompt) + 1 + len(before)
    assert pairs("predictions") == [(start + 3, other - 1), (start + 4, other), (start + 6, other + 2)]
    first = len(encoded.prompt) + (len(before) if reads == "text" else 2)
    assert pairs("step_ends") == [(start + 1, first), (start + 5, other + 1)]
    if reads == "thoughts":
        places = [(start + n, start + n) for n in (0, 1, 4, 5)]
        assert pairs("reasoning") == places


def test_the_answer_begins_after_as_much_of_its_opening_as_was_written() -> None:
    """An answer of fewer tokens than the format writes before one has a place inside the row, the same for both."""
    latent = ENCLOSED.replace(enclose="thoughts")
    rows = own_rows(latent, whole_text(latent))
    encoded = rows.teaching.rows[3]
    opening = encoded.answer[: encoded.lead]
    assert opening
    row = latent.layout(encoded, 1, None, rows.tokens)
    for own, lead in (([1], 0), ([21, 22, 1], 0), ([*opening, 21, 1], len(opening)), (opening[:1], 1)):
        for reading in rows.read(Task(0, 3, row), own):
            (site,) = sites(reading, "answer")
            assert site.start == len(reading.row) - len(own) + lead - 1


def test_a_shortened_row_is_continued_after_the_steps_that_it_kept() -> None:
    latent = ENCLOSED.replace(enclose="thoughts")
    rows = own_rows(latent, whole_text(latent))
    place = next(i for i, encoded in enumerate(rows.teaching.rows) if len(encoded.steps) == 4)
    from latentthought.data.fitting import fit_rows

    whole = rows.teaching.rows[place]
    short = fit_rows([whole], len(whole) - 1, "truncate_steps").rows[0]
    numbers = [short.part(step).number for step in range(len(short.steps))]
    assert numbers == [1, 2, 4]
    rows.teaching.rows[place] = short  # type: ignore[index]
    latent = latent.replace(max_latent_steps=3)
    row = latent.layout(short, 3, None, rows.tokens)
    _, teacher = rows.read(Task(0, place, row), [21, 1])
    gold = [token for number in numbers for token in whole.steps[number - 1]]
    assert teacher.row.ids == [*whole.prompt, *gold, 21, 1]


def test_a_stage_writes_with_the_scale_that_it_will_read_with(make) -> None:
    """The target is measured when a stage's first step begins, and its text is written before that."""
    prepared = prepare(make(curriculum=LAST_STAGE))
    _, wanted = written(prepared, range(4))
    collate = StageCollator(0, prepared.recipe.curriculum, prepared.guidance.teaching)
    own_text = OwnText(prepared.guidance.on_policy, prepared.dataset, collate, nullcontext)
    prepared.model.train().scale.target.fill_(9.0)
    (batch,) = own_text(prepared.model, [collate([prepared.dataset[slot] for slot in range(4)])])
    assert prepared.model.training
    assert batch["written"].tolist() == wanted.lengths
    for ids, mask, reading in zip(batch["input_ids"], batch["attention_mask"], wanted.readings, strict=True):
        assert ids[mask.bool()].tolist() == reading.row.ids


# --- draws and settings -----------------------------------------------------------------------------------------------


def test_words_are_drawn_by_their_chances() -> None:
    """Numbers that lie evenly give each word its share to within one; words that are not to be written have none."""
    count, words = 10_000, [0, 2, 3, 6]
    logits = torch.linspace(-1.0, 2.0, 7).roll(2)
    draws = Draws([[(n + 0.5) / count] for n in range(count)], words, 0.5, "cpu")
    chosen = draws(torch.zeros(count, 1, dtype=torch.long), logits.expand(count, -1)).argmax(-1)
    weights = {word: float((2.0 * logits[word]).exp()) for word in words}
    for word in range(7):
        wanted = count * weights.get(word, 0.0) / sum(weights.values())
        assert int((chosen == word).sum()) == pytest.approx(wanted, abs=1.0)


def test_more_numbers_begin_with_the_same() -> None:
    assert uniform_numbers(["a", "b"], 3) == [row[:3] for row in uniform_numbers(["a", "b"], 9)]


def test_steps_are_drawn_by_the_share_and_by_nothing_else(make) -> None:
    on_policy = prepare(make(teacher={"on_policy": {"share": 0.3}})).guidance.on_policy
    taken = [on_policy.applies(step) for step in range(4000)]
    assert sum(taken) / 4000 == pytest.approx(0.3, abs=0.03)
    assert [on_policy.applies(step) for step in (7, 3, 7)] == [taken[7], taken[3], taken[7]]


def test_rows_end_where_a_model_has_no_positions_left(make) -> None:
    for who, sizes in (
        ("model", {"scratch": {"max_positions": 16}}),
        ("teacher", {"scratch": {"max_positions": 16}}),
    ):
        recipe = make(**{who: sizes}, curriculum=LAST_STAGE)
        recipe = recipe.replace(teacher=merge(recipe.teacher.dump(), {"on_policy": {"max_new_tokens": 40}}))
        prepared = prepare(recipe)
        _, own = written(prepared, range(8))
        teacher = [own.teaching.readings[place].row for place in range(8)]
        student = [reading.row for reading in own.readings]
        longest = max(map(len, student if who == "model" else teacher))
        assert longest <= 16
        assert min(own.lengths) >= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": {"cache": {"path": "states"}}}, "own text is in no cache"),
        ({"objective": [{"term": "ce"}]}, "nothing would be compared"),
        (
            {"teacher": {"tokenizer": {"kind": "bytes", "vocab_size": 300}}, "objective": [HIDDEN]},
            "the very tokens that the student writes",
        ),
        ({"curriculum": {"delimiters": False}}, "curriculum.delimiters is false"),
        ({"curriculum": {"first": {"mix": 0.5}}}, "the stage text mixes them with text"),
        ({"curriculum": {"each": {"advance_at": 0.9}}}, "leaves no row with labels"),
        (
            {
                "curriculum": {"enclose": "reasoning", "drop_rest": True},
                "teacher": {"reads": "thoughts"},
            },
            "leaves no step in words",
        ),
        ({"teacher": {"on_policy": {"share": 1.5}}}, "less than or equal to 1"),
        ({"teacher": {"on_policy": {"shares": 0.5}}}, "did you mean share"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_start(make, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(make(**changes))


def test_defaults() -> None:
    assert OnPolicyConfig().dump() == {"share": 0.5, "temperature": 1.0, "max_new_tokens": 64}
