"""The page of a look inside the thoughts: a prompt after the other, each with its answer, its thoughts, and what they are worth.

What a page holds grows with blocks, thoughts and words of the prompt. Readings of every block are shown as long as the page stays
small enough to open at once and be mailed; beyond that the last block's, and the page says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from latentthought.errors import ConfigError
from latentthought.evaluation.inspection.results import Effect, Inspection, Seen, ThoughtView, Words
from latentthought.reporting.document import (
    Beside,
    Block,
    Details,
    Heading,
    Items,
    Lines,
    Shaded,
    Table,
    Text,
    to_html,
    write_text,
)

# cells (a word of a reading, a shaded word) of all blocks that a page has room for: about a megabyte
_CELLS = 20_000
MOST_PROMPTS = 50
_NAMED = 5
_REACH = {"direct": "the other thoughts as they were", "total": "and what follows from it"}
_KINDS = {
    "removed": "removed",
    "noised": "noised",
    "swapped": "swapped with another prompt's",
}
READING = (
    "Says: the words that the model's head finds in the thought. Cosine: with the thought before. RMS: over that of an "
    "embedding. Removed, noised, swapped: by how many nats the answer above loses when the thought, and what follows from it, "
    "is changed so, and what the model answers instead."
)


def check_page(path: Path) -> None:
    """Raise `ConfigError` where a page cannot be written."""
    if path.is_dir():
        raise ConfigError(
            f"--html {path}: this is a folder; give the name of a file in it, such as {path / 'thoughts.html'}"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"--html {path}: there is no folder {path.parent}")


def write_page(path: Path, model: str, inspections: Sequence[Inspection]) -> Path:
    """Write the page of some prompts, whole or not at all."""
    return write_text(path, to_html(f"Inside the thoughts of {model}", list(page(inspections))))


def page(inspections: Sequence[Inspection], level: int = 2) -> Iterator[Block]:
    """The blocks of some prompts. level: of a prompt's heading."""
    room = _CELLS
    yield Text(READING)
    for found in inspections:
        needed = _cells(found)
        yield from prompt_blocks(found, whole=needed <= room, level=level)
        room -= min(needed, room)


def _cells(found: Inspection) -> int:
    seen = [view.seen for view in found.thoughts] + [found.answer_seen]
    return sum(
        3 * sum(map(len, one.words)) + (sum(map(len, one.attention)) if one.attention else 0) for one in seen
    )


def prompt_blocks(found: Inspection, whole: bool = True, level: int = 2) -> Iterator[Block]:
    """One prompt. whole: with the readings of every block."""
    yield Heading(f"Prompt {found.id}", level)
    yield Lines(found.question)
    yield Beside(list(_in_thoughts(found)), list(_in_words(found)))
    yield Heading("The thoughts", level + 1)
    yield _overview(found)
    if found.donor is not None:
        yield Text(f"Swapped thoughts come from the prompt: {_shortened(found.donor)}")
    else:
        yield Text(
            "No thought was swapped: there is no other prompt to take one from (--other PROMPT, or --input FILE)."
        )
    if not whole:
        yield Text(
            "The page would become too large with the readings of every block: the last block's are shown."
        )
    for number, view in enumerate(found.thoughts, 1):
        yield Details(
            f"Thought {number}: {_said(view.seen.words[-1], 3)}", list(_thought(found, number, view, whole))
        )
    yield Details(
        f"The answer's first word: {_said(found.answer_seen.words[-1], 3)}",
        list(_seen(found, found.answer_seen, whole)),
    )


def _in_thoughts(found: Inspection) -> Iterator[Block]:
    count = len(found.thoughts)
    yield Heading(f"After {count} thought{'s' * (count != 1)}", 3)
    said = [_said(view.seen.words[-1], 1) for view in found.thoughts]
    yield Items([f"thought {number}: {word}" for number, word in enumerate(said, 1)])
    yield Text("answer:")
    yield Lines(found.answer or "(empty)")
    yield Text(f"log probability {_number(found.answer_log_prob, 3)}")


def _in_words(found: Inspection) -> Iterator[Block]:
    yield Heading("In words, without thoughts", 3)
    yield Lines(found.in_words or "(empty)")
    if found.gold is not None:
        yield Text("the row's own steps and answer:")
        yield Lines("\n".join([*found.steps, f"answer: {found.gold}"]))


def _overview(found: Inspection) -> Table:
    kinds = [kind for kind in _KINDS if any(effect.kind == kind for effect in found.thoughts[0].effects)]
    rows = []
    for number, view in enumerate(found.thoughts, 1):
        total = {effect.kind: effect for effect in view.effects if effect.reach == "total"}
        rows.append(
            (
                str(number),
                _said(view.seen.words[-1], 2),
                *(_outcome(total[kind]) for kind in kinds),
                "" if view.cosine is None else f"{view.cosine:.2f}",
                f"{view.rms_ratio:.2f}",
            )
        )
    return Table(("thought", "says", *kinds, "cosine", "RMS"), rows, left=2 + len(kinds))


def _outcome(effect: Effect) -> str:
    """The change of the answer's log probability, and what is answered: `-7.20, "k"`."""
    return f"{_number(effect.log_prob, 2, '+')}, {_answers(effect)}"


def _answers(effect: Effect) -> str:
    draws = sum(count for _, count in effect.answers)
    if effect.kept == 1.0:
        return "same answer"
    text, _ = effect.answers[0]
    if draws == 1:
        return repr(_shortened(text, 40))
    return f"same answer in {round(effect.kept * draws)} of {draws}"


def _thought(found: Inspection, number: int, view: ThoughtView, whole: bool) -> Iterator[Block]:
    yield from _seen(found, view.seen, whole)
    yield Heading(f"What the answer owes to thought {number}", 4)
    yield Table(
        ("the thought is", "what comes after it", "answers", "log probability", "KL, first word"),
        [
            (
                _KINDS[effect.kind],
                "left out as well"
                if (effect.kind, effect.reach) == ("removed", "total")
                else "as it was"
                if effect.reach == "direct"
                else "thought again",
                ", ".join(
                    f"{_shortened(text, 60)!r}{f' x {count}' if count > 1 else ''}"
                    for text, count in effect.answers[:_NAMED]
                ),
                _number(effect.log_prob, 3, "+"),
                _number(effect.divergence, 3),
            )
            for effect in view.effects
        ],
        left=3,
    )


def _seen(found: Inspection, seen: Seen, whole: bool) -> Iterator[Block]:
    yield Heading("Words by block", 4)
    last = len(seen.words)
    blocks = range(1, last + 1) if whole else range(last, last + 1)
    ranks = max(map(len, seen.words))
    yield Table(
        ("block", *(f"word {rank}" for rank in range(1, ranks + 1))),
        [
            (
                f"{block}" if block < last else f"{block}, as the head says it",
                *map(_word, seen.words[block - 1]),
            )
            for block in blocks
        ],
        left=1 + ranks,
    )
    yield Heading("Where it looks", 4)
    if seen.attention is None:
        yield Text("This model does not tell its attention.")
        return
    mean = [sum(column) / len(seen.attention) for column in zip(*seen.attention, strict=True)]
    yield from _attention(found, "All blocks", mean)
    if whole and last > 1:
        yield Details(
            "By block",
            [
                block
                for n, row in enumerate(seen.attention, 1)
                for block in _attention(found, f"Block {n}", row)
            ],
        )


def _attention(found: Inspection, name: str, weights: Sequence[float]) -> Iterator[Block]:
    """Attention over the columns up to one, the mean over heads: words shaded, and the heaviest named with their shares."""
    words = found.columns[: len(weights)]
    heaviest = sorted(range(len(words)), key=lambda place: -weights[place])[:_NAMED]
    named = "  ".join(f"{words[place]!r} ({place + 1}) {100 * weights[place]:.0f} %" for place in heaviest)
    prompt = sum(weights[: found.prompt_columns])
    yield Text(f"{name}: {100 * prompt:.0f} % on the prompt. Most on {named}")
    yield Shaded(list(zip(words, weights, strict=True)), max(weights))


def _said(words: Words, count: int) -> str:
    """The first words, as far as they are more than nothing."""
    return "  ".join(_word(word) for rank, word in enumerate(words[:count]) if not rank or word[1] >= 0.005)


def _word(word: tuple[str, float]) -> str:
    text, chance = word
    return f"{text!r} {chance:.2f}"


def _number(value: float, places: int, sign: str = "") -> str:
    """A number, rounded first, so that nothing is not shown as less than nothing."""
    return f"{round(value, places) + 0.0:{sign}.{places}f}"


def _shortened(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
