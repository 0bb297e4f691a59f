"""The parser: the tree of every kind of answer, LaTeX beside plain text, nothing read in part, work linear in the text."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from latentthought.grading import normalize
from latentthought.grading.expression.cursor import Cursor
from latentthought.grading.expression.parser import ParseError, parse
from latentthought.grading.expression.tree import (
    MAXIMUM_DEPTH,
    MAXIMUM_NODES,
    Add,
    Builder,
    Call,
    Collection,
    Constant,
    Divide,
    Literal,
    Matrix,
    Multiply,
    NamedSet,
    Negate,
    Node,
    PlusMinus,
    Power,
    Relation,
    SetOperation,
    Symbol,
    Words,
    walk,
)

_JOINED = {Add: "+", Multiply: "*", Divide: "/", Power: "^", PlusMinus: "±"}


def shown(node: Node) -> str:
    """A tree as one line: prefix signs, `name<arguments>` for calls, `<...>` for a bare list."""
    parts = [shown(child) for child in node.children]
    match node:
        case Literal():
            return str(node.value) if node.decimals is None else f"{float(node.value)}~{node.decimals}"
        case Symbol() | Constant() | NamedSet():
            return node.name
        case Words():
            return repr(node.text)
        case Negate():
            return f"-{parts[0]}"
        case Call():
            return f"{node.name}<{', '.join(parts)}>"
        case Relation():
            return " ".join([parts[0], *(f"{s} {p}" for s, p in zip(node.signs, parts[1:], strict=True))])
        case Collection():
            return (node.opening or "<") + ", ".join(parts) + (node.closing or ">")
        case SetOperation():
            return f"{node.name}({'; '.join(parts)})"
        case Builder():
            return "{" + parts[0] + " | " + "; ".join(parts[1:]) + "}"
        case Matrix():
            return node.kind[0] + "[" + " / ".join(" ".join(map(shown, row)) for row in node.rows) + "]"
    return f"({_JOINED[type(node)]} {' '.join(parts)})"


VALUES = {
    "3x^2+2x-1": "(+ (* 3 (^ x 2)) (* 2 x) -1)",
    "2(x+1)(x-1)": "(* 2 (+ x 1) (+ x -1))",
    "-x^2": "-(^ x 2)",
    "2--3": "(+ 2 --3)",
    "2*-3": "(* 2 -3)",
    "2^3^2": "(^ 2 (^ 3 2))",
    "2^3!": "(^ 2 factorial<3>)",
    "x**-1": "(^ x -1)",
    "a/b/c": "(/ (/ a b) c)",
    "1/2x": "(* (/ 1 2) x)",
    "1/(2x)": "(/ 1 (* 2 x))",
    "xy": "(* x y)",
    "2xe^x": "(* 2 x (^ e x))",
    "theta": "theta",
    "2pi r": "(* 2 pi r)",
    "AB": "AB",
    "x_1+x_{12}": "(+ x_1 x_12)",
    "x1": "x_1",
    "a_{n+1}": "a_n+1",
    "x''": "x''",
    "3 1/2": "mixed<3, (/ 1 2)>",
    "-2 1/3": "-mixed<2, (/ 1 3)>",
    "0.50": "0.5~2",
    "1.5e3": "1500.0~0",
    "1e5": "100000",
    "50%": "percent<50>",
    "3/5%": "percent<(/ 3 5)>",
    "tan 15 degrees": "tan<degrees<15>>",
    "1010_2": "base<'1010', 2>",
    "A5_{16}": "base<'A5', 16>",
    "3A_1": "(* 3 A_1)",
    "12_{seven}": "base<'12', 7>",
    "3:1": "ratio<3, 1>",
    "3 to 1": "ratio<3, 1>",
    "11:30": "clock<11, 30>",
    "5C2": "binomial<5, 2>",
    "C(5,2)": "binomial<5, 2>",
    "7 mod 3": "mod<7, 3>",
    "1 +- sqrt 2": "(± 1 sqrt<2>)",
    "$5": "5",
    "1+-2": "(+ 1 -2)",
    "a.b": None,
}
FUNCTIONS = {
    "sin 2x cos x": "(* sin<(* 2 x)> cos<x>)",
    "sin(x)cos(x)": "(* sin<x> cos<x>)",
    "sin^2 x": "(^ sin<x> 2)",
    "sin^{-1} x": "arcsin<x>",
    "sin x^2": "sin<(^ x 2)>",
    "sin(x)^2": "(^ sin<x> 2)",
    "sin pi/6": "sin<(/ pi 6)>",
    "sin x / 2": "(/ sin<x> 2)",
    "ln 2/2": "(/ ln<2> 2)",
    "xsinx": "(* x sin<x>)",
    "log_2 8": "log<2, 8>",
    "log2(8)": "log<2, 8>",
    "log x": "log<x>",
    "root(3,8)": "root<3, 8>",
    "max{1,2}": "max<1, 2>",
    "|x-1|": "abs<(+ x -1)>",
    "||x|-1|": "abs<(+ abs<x> -1)>",
    "2|x|y": "(* 2 abs<x> y)",
    "(n+1)!/n!": "(/ factorial<(+ n 1)> factorial<n>)",
    "f(x)=x^2": "f<x> = (^ x 2)",
    "f^{-1}(x)": "f^-1<x>",
    "f'(2)": "f'<2>",
    "P(x)": "P<x>",
    "P(1+r)": "(* P (+ 1 r))",
    "a(x)=2": "a<x> = 2",
    "h(a+b)/2": "(/ (* h (+ a b)) 2)",
}
STRUCTURES = {
    "(1,2)": "(1, 2)",
    "[1;2)": "[1, 2)",
    "]0,1[": "(0, 1)",
    "[0,1[": "[0, 1)",
    "(5)": "5",
    "[[1,2],[3,4]]": "[[1, 2], [3, 4]]",
    "[(1,2)]": "[(1, 2)]",
    "{1,2}": "{1, 2}",
    "{5}": "{5}",
    "{x}y": "(* x y)",
    "{}": "empty",
    "1, 2, and 3": "<1, 2, 3>",
    "x=1 or x=2": "<x = 1, x = 2>",
    "x<1 or x>2": "union(x < 1; x > 2)",
    "x>1 and x<2": "intersection(x > 1; x < 2)",
    "2<=x<3": "2 <= x < 3",
    "(-inf,1)U(2,inf)": "union((-infinity, 1); (2, infinity))",
    "R - {3}": "difference(reals; {3})",
    "x in R": "x in reals",
    "{x | x>1}": "{x | x > 1}",
    "{x : x>1 and x<2}": "{x | x > 1; x < 2}",
    "{x | x<1 or x>2}": "{x | union(x < 1; x > 2)}",
    "{|x| : x in Z}": "{abs<x> | x in integers}",
    "no solution": "empty",
    "Softball, Kickball": "<'Softball', 'Kickball'>",
    "north-east": "'north-east'",
    "2, Tom": "<2, 'Tom'>",
    "dog": "'dog'",
    "abc": "(* a b c)",
    "1, 2, ...": "<1, 2, '...'>",
    "x=1, y=2": "<x = 1, y = 2>",
    "x = y (mod 5)": "x = residue<y, 5>",
}
LATEX = {
    r"\frac{1}{2}x": "(* (/ 1 2) x)",
    r"\frac12": "(/ 1 2)",
    r"3\frac12": "mixed<3, (/ 1 2)>",
    r"3\frac{x}{2}": "(* 3 (/ x 2))",
    r"2^\frac12": "(^ 2 (/ 1 2))",
    r"\sqrt[3]{x}": "root<3, x>",
    r"\sqrt2x": "(* sqrt<2> x)",
    r"\pisqrt{2}": "(* pi sqrt<2>)",
    r"\tan\frac{x}{2}": "tan<(/ x 2)>",
    r"\log_{2}8": "log<2, 8>",
    r"\operatorname{lcm}(2,3)": "lcm<2, 3>",
    r"\binom{5}{2}": "binomial<5, 2>",
    r"{n \choose 2}": "binomial<n, 2>",
    r"{}_5C_2": "binomial<5, 2>",
    r"\left|x\right|": "abs<x>",
    r"\lfloor x\rfloor+\lceil y\rceil": "(+ floor<x> ceil<y>)",
    r"30^{\circ}": "degrees<30>",
    r"0.1\overline{6}": "1/6",
    r"1{,}234": "1234",
    r"\{-1\}\cup[0,7)": "union({-1}; [0, 7))",
    r"\mathbb{R}\setminus\{1\}": "difference(reals; {1})",
    r"\left(-\infty,\frac12\right]": "(-infinity, (/ 1 2)]",
    r"x\not=3": "x != 3",
    r"\{x\in\mathbb{R}\mid x\ge0\}": "{x in reals | x >= 0}",
    r"\langle1,2\rangle": "(1, 2)",
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": "m[1 2 / 3 4]",
    r"\begin{array}{cc}1&2\\3&4\\\end{array}": "m[1 2 / 3 4]",
    r"\begin{vmatrix}a&b\\c&d\end{vmatrix}": "d[a b / c d]",
    r"2\begin{bmatrix}1\\2\end{bmatrix}": "(* 2 m[1 / 2])",
    r"5\text{ and }7": "<5, 7>",
    r"x\equiv3\pmod{5}": "x = residue<3, 5>",
    r"\overline{CD}": "CD",
    r"e^{i\pi}": "(^ e (* i pi))",
    r"x=\pm3": "x = (± 0 3)",
    r"\approx 8.24": "8.24~2",
    r"\frac{270}7\text{ degrees}": "degrees<(/ 270 7)>",
}


@pytest.mark.parametrize(
    ("text", "tree"), [pair for table in (VALUES, FUNCTIONS, STRUCTURES, LATEX) for pair in table.items()]
)
def test_tree(text: str, tree: str | None) -> None:
    if tree is None:
        with pytest.raises(ParseError):
            parse(text)
    else:
        assert shown(parse(text)) == tree


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "1 2", "3 4/x", "(1", "1)", "(1,2", "[1]2]", "(5]", "1+", "*2", "x^", r"\frac{1}", r"\sqrt", "sin", "|x",
        "5!!", r"\begin{pmatrix}1&2\\3\end{pmatrix}", r"\begin{pmatrix}1\end{bmatrix}", r"\begin{cases}1\end{cases}",
        r"\nonsense", r"\sum_{i=1}^n i", "x = dogs and 3 cats", "10 square inches", "1e301", "9" * 401, "2_x", "root(2)",
        "sqrt(1,2)", "25 sqrt", "1.2.3", "a ? b", "x\x00", "\ud800", "__import__('os')", "x[0].y", "=",
    ],
)  # fmt: skip
def test_refused_as_a_whole(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


@pytest.mark.parametrize("good", ["25", "x+1", "(1,2)", "{1}", r"\frac{1}{2}", "sin x"])
@pytest.mark.parametrize("rest", [")", "]", "\\", "&", "^", "_", "#", "?", "@"])
def test_never_a_part(good: str, rest: str) -> None:
    with pytest.raises(ParseError):
        parse(good + rest)


HOSTILE = [
    "(" * 900 + ")" * 900, "{" * 1999, "[" * 1999, "|" * 1999, "-" * 1998 + "1", "!" * 1999, "sin " * 499, "2^" * 900 + "2",
    "1/" * 900 + "1", "1:" * 900 + "1", "x_{" * 600, r"\frac" * 399, r"\sqrt" * 390, r"\{" * 900, "f(" * 900, "{a|" * 600,
    "1=" * 900 + "1", "a," * 900, r"\pm" * 600 + "1", "mod " * 490, r"\begin{array}" * 150, "abcd" * 499, "xsqrt" * 390,
    "north " * 330, "9" * 1999, "1_" * 999, "F" * 1999, "~" * 1999, r"\text{" * 330, r"\left" * 390, "'" * 1999, "x'" * 999,
    r"{}_5C_2" * 280, "[0,1[" * 390, "0.1" * 660, r"0.\overline{9}" * 140, " " * 1999, "𝔸" * 1000, "{ " * 999, r"\," * 900,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_work_is_linear(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    advance, enter = Cursor.advance, Cursor.enter

    def counted_advance(self: Cursor, count: int = 1) -> None:
        nonlocal steps
        steps += 1
        advance(self, count)

    def counted_enter(self: Cursor) -> None:
        nonlocal steps
        steps += 1
        enter(self)

    monkeypatch.setattr(Cursor, "advance", counted_advance)
    monkeypatch.setattr(Cursor, "enter", counted_enter)
    try:
        tree = parse(text)
    except ParseError:
        pass
    else:
        assert len(list(walk(tree))) <= MAXIMUM_NODES
    assert steps <= 3 * len(text)


def test_limits() -> None:
    assert parse("(" * MAXIMUM_DEPTH + "1" + ")" * MAXIMUM_DEPTH) == parse("1")
    for text in ("(" * 41 + "1" + ")" * 41, "1+" * 600 + "1", "1" * 2001, "x" * 10**6):
        with pytest.raises(ParseError):
            parse(text)


def test_a_used_up_stack_is_a_parse_error() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
            return
        with pytest.raises(ParseError):
            parse("(" * 39 + "7" + ")" * 39)

    def nearly_all() -> None:
        try:
            nearly_all()
        except RecursionError:
            return

    errors: list[BaseException] = []

    def run() -> None:
        try:
            import sys

            deep(sys.getrecursionlimit() - 300)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not errors


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60)
    | st.text(alphabet="0123456789xyie+-*/^_!|()[]{},;:=<>\\ .%$'&abcsinlogsqrt", max_size=60)
)
def test_any_text_gives_a_tree_or_a_parse_error(text: str) -> None:
    try:
        tree = parse(text)
    except ParseError:
        return
    assert len(list(walk(tree))) <= MAXIMUM_NODES
    hash(tree)


_X, _Y = sympy.symbols("x y")
_LEAVES = st.integers(-9, 9).map(sympy.Integer) | st.sampled_from(
    [_X, _Y, sympy.pi, sympy.Rational(2, 3), sympy.sqrt(5)]
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.tuples(st.sampled_from("+*/^s"), inner, inner).map(
        lambda t: {
            "+": lambda a, b: a + b,
            "*": lambda a, b: a * b,
            "/": lambda a, b: a / (b**2 + 1),
            "^": lambda a, b: a**2 - b,
            "s": lambda a, b: sympy.sin(a) + b,
        }[t[0]](t[1], t[2])
    ),
    max_leaves=6,
)


def _as_sympy(node: Node) -> sympy.Expr:
    """An independent reading of a tree: sympy's own classes, put together by hand."""
    parts = [_as_sympy(child) for child in node.children]
    match node:
        case Literal():
            return sympy.Rational(node.value.numerator, node.value.denominator)
        case Symbol():
            return sympy.Symbol(node.name)
        case Constant():
            return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I}[node.name]
        case Negate():
            return -parts[0]
        case Add():
            return sum(parts, sympy.Integer(0))
        case Multiply():
            return sympy.prod(parts)
        case Divide():
            return parts[0] / parts[1]
        case Power():
            return parts[0] ** parts[1]
        case Call():
            return {"sqrt": sympy.sqrt, "sin": sympy.sin, "mixed": lambda a, b: a + b}[node.name](*parts)
    raise AssertionError(node)


@settings(max_examples=120, deadline=None)
@given(_TREES)
def test_what_sympy_writes_is_read_back(expression: sympy.Expr) -> None:
    point = {_X: sympy.Rational(7, 5), _Y: sympy.Rational(-3, 11)}
    expected = complex(expression.subs(point).evalf(30))
    for text in (sympy.latex(expression), str(expression)):
        found = complex(_as_sympy(parse(text)).subs(point).evalf(30))
        assert abs(found - expected) <= 1e-9 * max(1.0, abs(expected)), text


def test_math_answers_parse(data_folder: Path) -> None:
    answers = []
    for name in ("math_train", "math_test"):
        with gzip.open(data_folder / "math" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            answers += [json.loads(line)["answer"] for line in lines]
    answers = [answer for answer in answers if answer]
    failed = []
    for answer in answers:
        try:
            parse(normalize(answer))
        except ParseError:
            failed.append(answer)
    assert len(answers) == 12498
    # what is left are units, which are split off before an answer is parsed
    assert len(failed) <= 0.007 * len(answers)
    assert sum(not any(c.isalpha() for c in answer.replace("\\", "")) for answer in failed) == 0
