"""The terms that an objective may have, as a recipe writes them.

    {term: ce, weight: 1.0}                                     next-token cross-entropy on the labels
    {term: ce, of: chain}                                       the same, of the whole chain of thought (self distillation)
    {term: kl, weight: 0.4, temperature: 2.0}                   softened distributions against the teacher's
    {term: hidden, weight: 0.1, target: teacher, layers: uniform, alignment: step_ends, projector: {kind: linear}}
    {term: hidden, weight: 0.1, target: next_embedding}         scale(h[t-1]) against the embedding of token t
    {term: hidden, weight: 0.1, target: text_states}            h[t] against the model's own state in a pure-text pass
    {term: spell, weight: 1.0}                                  an auxiliary decoder spells step k from the thoughts of step k

A weight is a number or a schedule. Every formula of the systems S1 to S5 is a list of these.
Rejected: losses as callables named by import path in YAML (unsafe, untyped, and nobody can say what a run used).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from torch import nn

from latentthought.errors import ConfigError, unknown
from latentthought.objective.alignment import Rule
from latentthought.objective.layers import LayerMap
from latentthought.objective.projectors import ProjectorConfig
from latentthought.objective.spelling import SpellingTerm
from latentthought.objective.weights import NAME, Weighted


class CrossEntropyTerm(Weighted):
    """Next-token cross-entropy over all labels, as the model computes it (head only where labels are).

    of: `row`, the row as its stage lays it out; `chain`, the same row as a whole chain of thought, which self distillation
        reads beside it (`teacher.model: self`).
    """

    term: Literal["ce"]
    of: Literal["row", "chain"] = "row"
    name: str = Field("ce", pattern=NAME)


class DivergenceTerm(Weighted):
    """Divergence from the teacher's next-token distributions, wherever both predict the same token.

    temperature T softens both, and the value is scaled by T^2 (arXiv 1503.02531). direction: forward KL(teacher || student),
    reverse, js (Jensen-Shannon), or skewed: forward against a mixture that holds `skew` of the teacher (arXiv 2402.03898);
    skewed_reverse is its mirror image.
    """

    term: Literal["kl"]
    temperature: float = Field(1.0, gt=0.0)
    direction: Literal["forward", "reverse", "js", "skewed", "skewed_reverse"] = "forward"
    skew: float = Field(0.1, gt=0.0, lt=1.0)
    name: str = Field("kl", pattern=NAME)


class HiddenTerm(Weighted):
    """Distance between hidden states: `mse` * squared error + `cosine` * (1 - cosine) + `smooth_l1` * smooth L1.

    target: `teacher`, its states at the aligned positions; `next_embedding`, the embedding of the token at t, compared with the
        scale-matched state at t-1; or `text_states`, the model's own state at t when it reads the same tokens as text (one
        more pass, without gradient). The latter two look at the reasoning positions whose token is known.
    alignment, layers, before_norm, projector: of target teacher; see `objective.alignment`, `.layers`, `.projectors`.
    layer_weights: one for each pair of layers, in their order; None weighs all alike.
    scale_match, beta: see `losses.distances`.
    balance: the name of another term, whose running size the weight is then a multiple of; see `objective.balance`.
    """

    term: Literal["hidden"]
    target: Literal["next_embedding", "text_states", "teacher"] = "next_embedding"
    alignment: Literal["reasoning", "step_ends", "answer", "shared", "pooled"] = "reasoning"
    layers: LayerMap = LayerMap()
    projector: ProjectorConfig = ProjectorConfig()
    layer_weights: tuple[Annotated[float, Field(ge=0.0)], ...] | None = None
    mse: float = Field(1.0, ge=0.0)
    cosine: float = Field(1.0, ge=0.0)
    smooth_l1: float = Field(0.0, ge=0.0)
    beta: float = Field(1.0, gt=0.0)
    scale_match: Literal["none", "rms", "std"] = "none"
    balance: str | None = None
    name: str = Field("hidden", pattern=NAME)

    @model_validator(mode="after")
    def _compares(self) -> HiddenTerm:
        if not (self.mse or self.cosine or self.smooth_l1):
            raise ValueError("a hidden term needs mse, cosine or smooth_l1 above 0")
        if self.target != "teacher":
            own = ("alignment", "layers", "projector", "layer_weights")
            misplaced = [name for name in own if getattr(self, name) != type(self).model_fields[name].default]
            if misplaced:
                raise ValueError(
                    f"{', '.join(misplaced)}: only with target: teacher, not {self.target} (the default is next_embedding)"
                )
        if self.layer_weights is not None and not any(self.layer_weights):
            raise ValueError("layer_weights: at least one above 0")
        return self


Term = CrossEntropyTerm | DivergenceTerm | HiddenTerm | SpellingTerm
TermConfig = Annotated[Term, Field(discriminator="term")]
DEFAULT_TERMS: tuple[Term, ...] = (CrossEntropyTerm(term="ce"),)
_KINDS: dict[str, type[Term]] = {
    "ce": CrossEntropyTerm,
    "kl": DivergenceTerm,
    "hidden": HiddenTerm,
    "spell": SpellingTerm,
}


def asks_teacher(term: Term) -> bool:
    """Whether a term compares with a teacher (or reads the whole chain of thought, in self distillation)."""
    if isinstance(term, CrossEntropyTerm):
        return term.of == "chain"
    return isinstance(term, DivergenceTerm) or (isinstance(term, HiddenTerm) and term.target == "teacher")


def rule_of(term: Term) -> Rule | None:
    """Which positions of student and teacher the term compares; None where it compares none."""
    if isinstance(term, DivergenceTerm):
        return "predictions"
    return term.alignment if isinstance(term, HiddenTerm) and term.target == "teacher" else None


def check_names(terms: Sequence[Term]) -> None:
    """Raise `ValueError` unless every term reports under names of its own and something is being minimised."""
    reported = Counter(name for term in terms for name in _reported(term))
    twice = [name for name, times in reported.items() if times > 1]
    if twice:
        raise ValueError(f"two terms report under the name {twice[0]!r}: give one of them another `name`")
    taken = [term.name for term in terms if hasattr(nn.ModuleDict, term.name)]
    if taken:
        raise ValueError(f"a term cannot be called {taken[0]!r}, a word that PyTorch keeps to itself")
    names = [term.name for term in terms]
    for term in terms:
        against = term.balance if isinstance(term, HiddenTerm) else None
        if against is not None and (against == term.name or against not in names):
            others = [name for name in names if name != term.name]
            raise ValueError(f"{term.name}.balance: {unknown('term', against, others)}")
    if all(term.weight == 0 for term in terms):
        raise ValueError("no term has a weight above 0")


def _reported(term: Term) -> list[str]:
    """The names under which a term is logged, its parts included."""
    parts = ("mse", "cosine", "smooth_l1") if isinstance(term, HiddenTerm) else ()
    return [term.name, *(f"{term.name}_{part}" for part in (*parts, "weighted"))]


def as_term(term: Term | Mapping[str, Any]) -> Term:
    """A term from its settings; `ConfigError` for a kind that there is not."""
    if not isinstance(term, Mapping):
        return term
    kind = term.get("term")
    if kind not in _KINDS:
        raise ConfigError(f"objective: {unknown('term', str(kind), _KINDS)}")
    return _KINDS[kind].parse(term, "objective")
