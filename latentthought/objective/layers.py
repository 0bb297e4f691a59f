"""Which layers of the student are compared with which layers of the teacher.

Blocks are numbered from 1, and block b stands for the state after it; 0 is the embeddings. transformers puts the final norm on
the last entry of `hidden_states` and on no other, so the last block is two different states: before that norm, like its
neighbours, or after it, which is what the head reads. Users write blocks; `LayerMap.resolve` turns them into capture keys, which
say which of the two is meant.
Rejected: indices into `hidden_states` (DistillKit's "all" then pairs the embeddings and never the last block), and maps that are
fitted in training (what has been compared would change from run to run).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from latentthought.config import Config
from latentthought.errors import ConfigError, unknown

AFTER_NORM = -1
"""Capture key of the state after the final norm; 0 is the input of block 1, b the output of block b before any final norm."""

Strategy = Literal["uniform", "last", "all", "middle_final", "provenance"]
_STRATEGIES = ("uniform", "last", "all", "middle_final", "provenance")

Depth = (
    Annotated[int, Field(ge=AFTER_NORM)]
    | Annotated[float, Field(ge=0.0, le=1.0)]
    | Literal["middle", "final"]
)
"""A block by number, by its share of the model's depth, or by name."""

_FRACTIONS = {"middle": 0.5, "final": 1.0}


def map_layers(
    n_student: int,
    n_teacher: int,
    strategy: Strategy = "uniform",
    pairs: Iterable[tuple[int, int]] | None = None,
    kept: Sequence[int] | None = None,
) -> dict[int, int]:
    """Student block -> teacher block, for models of `n_student` and `n_teacher` blocks.

    uniform: every student block, with the teacher's at the same share of its depth, halves rounded up (at least block 1).
    last: student s with s + (n_teacher - n_student), wherever there is one. all: one to one; equal depths only.
    middle_final: the middle (half the depth, rounded up) and the last. provenance: student s with kept[s - 1], the teacher's
    block that it was made from when the teacher was pruned. `pairs`, where given, is taken instead of any strategy.
    Raises `ConfigError` for blocks that a model does not have, a strategy that does not suit the two depths, or no depth.
    """
    if n_student < 1 or n_teacher < 1:
        raise ConfigError(f"layers: a model has at least one block, not {min(n_student, n_teacher)}")
    if pairs is not None:
        mapped = list(pairs)
    elif strategy == "uniform":
        mapped = [(s, max(1, _rounded(s * n_teacher, n_student))) for s in range(1, n_student + 1)]
    elif strategy == "last":
        shift = n_teacher - n_student
        mapped = [(s, s + shift) for s in range(max(1, 1 - shift), n_student + 1)]
    elif strategy == "all":
        if n_student != n_teacher:
            raise ConfigError(
                f"layers: all pairs models of equal depth, and the student has {n_student} blocks, the teacher {n_teacher}; "
                "choose uniform or last, or list pairs"
            )
        mapped = [(s, s) for s in range(1, n_student + 1)]
    elif strategy == "middle_final":
        mapped = [(_rounded(n_student, 2), _rounded(n_teacher, 2)), (n_student, n_teacher)]
    elif strategy == "provenance":
        if kept is None or len(kept) != n_student:
            have = "none are recorded" if kept is None else f"{len(kept)} are recorded"
            raise ConfigError(
                f"layers: provenance needs the teacher's block of each of the student's {n_student}, and {have}; "
                "it is for a student that was pruned from its teacher"
            )
        mapped = list(zip(range(1, n_student + 1), kept, strict=True))
    else:
        raise ConfigError(f"layers: {unknown('strategy', strategy, _STRATEGIES)}")
    for student, teacher in mapped:
        _check(student, n_student, "student", "layers")
        _check(teacher, n_teacher, "teacher", "layers")
    return dict(mapped)


class LayerMap(Config):
    """`layers` of a term: a strategy of `map_layers`, or a list of pairs. In YAML also the bare name, list or entry.

    pairs: each [student, teacher], or one entry for both. An entry is a block (1 = after the first, 0 the embeddings, -1 the
        last one after the final norm), a share of the model's own depth (0.5; whole numbers as 1.0), "middle" or "final".
    before_norm: take the last block's state before the final norm, comparable with its neighbours; else after it, as the head
        reads it and `hidden_states[-1]` gives it.
    """

    strategy: Strategy = "uniform"
    pairs: tuple[tuple[Depth, Depth], ...] | None = None
    before_norm: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in _FRACTIONS:
            value = {"strategy": value}
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            value = {"pairs": [value]}
        elif isinstance(value, (list, tuple)):
            value = {"pairs": value}
        if isinstance(value, Mapping) and isinstance(value.get("pairs"), (list, tuple)):
            # what a validator of this kind hands on counts as Python data, where strict mode takes no list for a tuple
            value = {**value, "pairs": tuple(_both(entry) for entry in value["pairs"])}
        return value

    @model_validator(mode="after")
    def _says_one_thing(self) -> LayerMap:
        if self.pairs is not None and not self.pairs:
            raise ValueError("an empty list of layers compares nothing")
        if self.pairs is not None and self.strategy != "uniform":
            raise ValueError(f"give pairs or strategy {self.strategy}, not both")
        return self

    def resolve(
        self, n_student: int, n_teacher: int, kept: Sequence[int] | None = None, where: str = "layers"
    ) -> tuple[tuple[int, int], ...]:
        """Pairs of capture keys (student, teacher), in the order given and without repeats.

        A key is a block's number for its raw output, 0 for the input of block 1, and `AFTER_NORM` for what follows the last.
        kept: of a student that was pruned from the teacher, the teacher's block that each of its own was.
        Raises `ConfigError` naming `where` and the model's range, and for a pruned student what its blocks were.
        """
        blocks: Iterable[tuple[int, int]]
        if self.pairs is None:
            blocks = map_layers(n_student, n_teacher, self.strategy, kept=kept).items()
        else:
            blocks = [(_block(s, n_student), _block(t, n_teacher)) for s, t in self.pairs]
        keys: dict[tuple[int, int], None] = {}
        for student, teacher in blocks:
            _check(student, n_student, "student", where, kept)
            _check(teacher, n_teacher, "teacher", where)
            keys[self._key(student, n_student), self._key(teacher, n_teacher)] = None
        return tuple(keys)

    def _key(self, block: int, depth: int) -> int:
        return AFTER_NORM if block == depth and not self.before_norm else block


def _both(entry: Any) -> Any:
    """An entry of the list as a pair."""
    return tuple(entry) if isinstance(entry, (list, tuple)) else (entry, entry)


def _block(depth: Depth, blocks: int) -> int:
    if isinstance(depth, int):
        return depth
    # as it is written: 0.58 of 25 blocks is 14.5, which the nearest float is not
    share = Fraction(str(_FRACTIONS[depth] if isinstance(depth, str) else depth))
    return _rounded(share.numerator * blocks, share.denominator)


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient, halves rounded up; exact."""
    return (2 * numerator + denominator) // (2 * denominator)


def _check(block: int, blocks: int, whose: str, where: str, kept: Sequence[int] | None = None) -> None:
    if AFTER_NORM <= block <= blocks:
        return
    pruned = ""
    if kept is not None:
        own = ", ".join(map(str, kept))
        pruned = f". It was pruned: its blocks were the teacher's {own}, and layers: provenance pairs them by itself"
    raise ConfigError(
        f"{where}: the {whose} has no block {block}; it has 0 (embeddings) to {blocks}, "
        f"and -1 for the last one after the final norm{pruned}"
    )
