"""The student as distillation sees it: a model, and the rows that it learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latentthought.distillation.pruning.provenance import blocks_in
from latentthought.objective.comparison import Depths

if TYPE_CHECKING:
    from latentthought.data.curriculum import Curriculum
    from latentthought.data.encoding import Encoded, FormatConfig
    from latentthought.data.example import Example
    from latentthought.data.fitting import Overlong


@dataclass(frozen=True)
class Pupil:
    """The student and its rows.

    model: without adapters. examples, rows: in the same order; rows encoded with spans where a term looks at a teacher.
    max_length, overlong: as in the recipe's data; they hold for the teacher's tokens too. texts, seed: for a teacher from
    scratch. device, spread: where its teacher is to be, see `Teacher.load`.
    """

    model: Any
    tokenizer: Any
    examples: Sequence[Example]
    rows: Sequence[Encoded]
    format: FormatConfig
    curriculum: Curriculum
    max_length: int | None = None
    overlong: Overlong = "drop"
    texts: Iterable[str] = ()
    seed: int = 0
    device: str | None = None
    spread: Mapping[str, Any] | None = None

    def depths(self, teacher: int, vocabulary: int | None) -> Depths:
        """Of student and teacher; teacher: its number of blocks. A student that was pruned knows which of these its own were."""
        kept = blocks_in(self.model.base.config.get_text_config(), teacher)
        return Depths(self.model.backbone.blocks, teacher, vocabulary, kept)
