"""Two answers as trees, walked side by side: values by `algebra`, sets as sets, equations as relations, lists item by item.

Kinds decide first: a tuple is no set, an interval no pair of numbers, and a name, an equation or a matrix no number, unless one
is the other with a name in front (`x = 5`), written differently (`x > 3`, `(3, oo)`) or on its own in brackets (`{5}`).
The walk goes down both trees at once, so that every rule holds at every depth, and may compare 400 values in all.
"""

from __future__ import annotations

from latentthought.grading import algebra
from latentthought.grading.equivalence.matching import match_ordered, match_sets, match_unordered
from latentthought.grading.equivalence.names import agree, labelled_roots, named
from latentthought.grading.equivalence.relations import is_set, is_statement, same_relation
from latentthought.grading.equivalence.rewriting import (
    is_braced,
    rows_as_matrix,
    shape,
    with_one_constant,
    with_one_parameter,
)
from latentthought.grading.equivalence.sets import NotRealError, RealSet, real_set, same_set
from latentthought.grading.equivalence.values import same_values
from latentthought.grading.expression.construction import as_set
from latentthought.grading.expression.tree import (
    Builder,
    Collection,
    Matrix,
    NamedSet,
    Node,
    Relation,
    SetOperation,
    Words,
)
from latentthought.grading.normalization.plain import key
from latentthought.grading.policy import GradePolicy

MAXIMUM_VALUES = 400
_NO_VALUES = (Collection, Relation, SetOperation, NamedSet, Builder, Words)
Verdict = tuple[bool, str]


def same_tree(a: Node, b: Node, policy: GradePolicy) -> Verdict:
    """(same, reason) of two parsed answers; symmetric, bounded, never raises."""
    return _Walk(policy).same(a, b)


class _Walk:
    def __init__(self, policy: GradePolicy) -> None:
        self.policy, self.left = policy, MAXIMUM_VALUES

    def equal(self, a: Node, b: Node) -> bool:
        return self.same(a, b)[0]

    def same(self, a: Node, b: Node) -> Verdict:
        """By kind, after `±`, scalars beside matrices and brackets around one thing are gone."""
        if a == b:
            return True, "same expression"
        if isinstance(a, Matrix) != isinstance(b, Matrix):
            a, b = rows_as_matrix(a), rows_as_matrix(b)
        a, b = with_one_parameter(shape(a), shape(b))
        if is_set(a) or is_set(b):
            a, b = as_set(a), as_set(b)
        if isinstance(a, Words) or isinstance(b, Words):
            both = isinstance(a, Words) and isinstance(b, Words)
            same = both and key(a.text) == key(b.text) != ""  # type: ignore[attr-defined]
            return same, "same text" if same else "another text"
        stated = self._stated(a, b)
        if stated is not None:
            return stated
        if is_set(a) or is_set(b):
            return self._sets(a, b)
        if isinstance(a, Matrix) or isinstance(b, Matrix):
            return self._matrices(a, b)
        if isinstance(a, Collection) and isinstance(b, Collection):
            return self._collections(a, b)
        if isinstance(a, _NO_VALUES) or isinstance(b, _NO_VALUES):
            return self._relations(a, b)
        return self._values(a, b)

    # -------------------------------------------------------------------------------------------------------- names
    def _stated(self, a: Node, b: Node) -> Verdict | None:
        """The bodies of answers with a name in front; None when neither has one, or when they have to be compared whole."""
        one, other = named(a), named(b)
        if (one.body is a and other.body is b) or (
            is_set(a) and is_set(b) and is_statement(a) and is_statement(b)
        ):
            return None
        agreed = agree(one, other)
        for x, y in ((one, other), (other, one)):
            if agreed is None or not y.names:
                roots = labelled_roots(x)
                if (
                    roots is not None
                    and (not y.names or y.names == roots.names)
                    and self.equal(roots.body, y.body)
                ):
                    return True, "same parts"
        if agreed is not None and len(one.names) == len(other.names) > 1:
            return self._one_by_one(*agreed)
        if agreed is not None:
            verdict = self.same(*agreed)
            if verdict[0] or not (is_statement(a) and is_statement(b)):
                return verdict
        if isinstance(a, Relation) and isinstance(b, Relation):
            same = self._relations(a, b)[0]
            reason = "another name" if agreed is None else "another relation"
            return same, "same equation" if same else reason
        if isinstance(a, Collection) and isinstance(b, Collection):
            return self._collections(a, b)
        return False, "another name"

    def _one_by_one(self, a: Node, b: Node) -> Verdict:
        """The values of several names: no policy mixes up what is x and what is y."""
        if not (isinstance(a, Collection) and isinstance(b, Collection)):
            return self.same(a, b)
        same = match_ordered(a.items, b.items, self.equal)
        return same, "same parts" if same else "another part"

    def _relations(self, a: Node, b: Node) -> Verdict:
        if isinstance(a, Relation) and isinstance(b, Relation):
            self.left -= 4
            if self.left > 0 and same_relation(a, b, self.equal):
                return True, "same equation" if set(a.signs) <= {"=", "~"} else "same inequality"
            return False, "another relation"
        return False, "another kind of answer"

    # --------------------------------------------------------------------------------------------------------- sets
    def _sets(self, a: Node, b: Node) -> Verdict:
        try:
            one, other = real_set(a), real_set(b)
        except NotRealError:
            return self._set_trees(a, b)
        same = same_set(one, other, self.equal)
        kind = "interval" if _is_interval(one) and _is_interval(other) else "set"
        return same, f"{'same' if same else 'another'} {kind}"

    def _set_trees(self, a: Node, b: Node) -> Verdict:
        """Sets that are not worked out (integers, letters as ends), part by part."""
        a, b = _as_list(a), _as_list(b)
        if type(a) is not type(b):
            return False, "another kind of answer"
        if isinstance(a, Relation):
            return self._relations(a, b)
        if isinstance(a, Collection):
            return self._collections(a, b)  # type: ignore[arg-type]
        same = False
        if isinstance(a, SetOperation) and isinstance(b, SetOperation) and a.name == b.name:
            match = match_ordered if a.name == "difference" else match_unordered
            same = match(a.operands, b.operands, self.equal)
        elif isinstance(a, Builder) and isinstance(b, Builder) and self.equal(a.variable, b.variable):
            same = match_unordered(a.conditions, b.conditions, self.equal)
        return same, "same set" if same else "another set"

    # -------------------------------------------------------------------------------------------------------- lists
    def _collections(self, a: Collection, b: Collection) -> Verdict:
        kinds = {a.opening + a.closing, b.opening + b.closing}
        if len(kinds) > 1 and not self._may_be_one_kind(a, b, kinds):
            return False, "other brackets"
        ordered = self.policy.ordered
        if kinds & {"(]", "[)"}:
            ordered = True
        elif ordered is None:
            ordered = bool(kinds & {"()", "[]"})
        equal = self._equal_members if kinds == {"{}"} else self.equal
        if kinds == {"{}"} and not ordered:
            same = match_sets(a.items, b.items, equal)
        elif len(a.items) != len(b.items):
            return False, "another number of parts"
        else:
            same = (match_ordered if ordered else match_unordered)(a.items, b.items, equal)
        return same, "same parts" if same else "another part"

    def _equal_members(self, a: Node, b: Node) -> bool:
        """Within a set, {1} is not 1."""
        return is_braced(a) == is_braced(b) and self.equal(a, b)

    def _may_be_one_kind(self, a: Collection, b: Collection, kinds: set[str]) -> bool:
        """A list without brackets may stand for one with them, but two numbers are no interval."""
        if kinds & {"(]", "[)"}:
            return False
        if kinds == {"()", "[]"}:  # three numbers are no interval
            return len(a.items) != 2
        if "" not in kinds:
            return False
        closed = a if a.opening == "[" else b
        return closed.opening != "[" or len(closed.items) != 2 or (algebra.order(*closed.items) or 0) >= 0

    def _matrices(self, a: Node, b: Node) -> Verdict:
        """Cell by cell; a tuple may stand for a vector, in a row or a column; a determinant is a value."""
        if not isinstance(a, Matrix):
            a, b = b, a
        assert isinstance(a, Matrix)
        if a.kind != "matrix" or (isinstance(b, Matrix) and b.kind != "matrix"):
            return (False, "another kind of answer") if isinstance(b, _NO_VALUES) else self._values(a, b)
        cells = a.children
        if isinstance(b, Matrix):
            same_shape = (len(a.rows), len(a.rows[0])) == (len(b.rows), len(b.rows[0]))
        elif isinstance(b, Collection) and b.opening + b.closing == "()":
            same_shape = 1 in (len(a.rows), len(a.rows[0])) and len(cells) == len(b.items)
        else:
            return False, "another kind of answer"
        if not same_shape:
            return False, "another shape"
        same = all(self.equal(x, y) for x, y in zip(cells, b.children, strict=True))
        return same, "same matrix" if same else "another matrix"

    def _values(self, a: Node, b: Node) -> Verdict:
        self.left -= 1
        if self.left < 0:
            return False, "too many parts"
        return same_values(*with_one_constant(a, b), self.policy)


def _is_interval(found: RealSet) -> bool:
    return len(found.intervals) == 1


def _as_list(node: Node) -> Node:
    """`x > 1 and y > 2` as the list that `x > 1, y > 2` is."""
    if (
        isinstance(node, SetOperation)
        and node.name == "intersection"
        and all(map(is_statement, node.operands))
    ):
        return Collection(node.operands)
    return node
