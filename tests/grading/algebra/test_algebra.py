"""The algebra: against fractions, mpmath and sympy built by hand; undecided where it should be; bounded on hostile input."""

from __future__ import annotations

import math
import random
import threading
from fractions import Fraction

import mpmath
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from latentthought.grading import algebra
from latentthought.grading.algebra import fields
from latentthought.grading.algebra.evaluation import Evaluation
from latentthought.grading.expression.parser import parse
from latentthought.grading.expression.tree import MAXIMUM_NODES, Add, Literal, Multiply, Node, Symbol


def same(a: str, b: str) -> bool | None:
    found = algebra.same_value(parse(a), parse(b))
    assert algebra.same_value(parse(b), parse(a)) is found
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2^10", Fraction(1024)),
        ("2^-3", Fraction(1, 8)),
        ("(2/3)^2-1/9", Fraction(1, 3)),
        ("5!", Fraction(120)),
        ("0!", Fraction(1)),
        ("(3!)!", Fraction(720)),
        (r"\binom{10}{3}", Fraction(math.comb(10, 3))),
        ("C(5,7)", Fraction(0)),
        ("sqrt(16/9)", Fraction(4, 3)),
        ("root(3,-27/8)", Fraction(-3, 2)),
        ("(-8)^(1/3)", Fraction(-2)),
        ("8^(2/3)", Fraction(4)),
        ("4^(-3/2)", Fraction(1, 8)),
        ("log_2 8", Fraction(3)),
        ("log_4 8", Fraction(3, 2)),
        ("log_{1/2} 8", Fraction(-3)),
        ("log 1000", Fraction(3)),
        ("|3-5|", Fraction(2)),
        (r"\lfloor -5/2\rfloor", Fraction(-3)),
        (r"\lceil 2.1\rceil", Fraction(3)),
        ("gcd(12,18)", Fraction(6)),
        ("lcm(4,6,10)", Fraction(60)),
        ("max(1/2,2/3)", Fraction(2, 3)),
        ("(-7) mod 3", Fraction(2)),
        ("3 1/2", Fraction(7, 2)),
        ("-2 1/3", Fraction(-7, 3)),
        ("50%", Fraction(1, 2)),
        ("1011_2", Fraction(11)),
        ("A5_{16}", Fraction(165)),
        ("0.11_2", Fraction(3, 4)),
        (r"0.\overline{142857}", Fraction(1, 7)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", Fraction(-2)),
        (r"\begin{vmatrix}0&2&1\\3&4&5\\1&0&2\end{vmatrix}", Fraction(-6)),
        ("2^4181", Fraction(2**4181)),
    ],
)
def test_exact_value(text: str, expected: Fraction) -> None:
    assert algebra.value(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    ["sqrt(2)", "pi", "x", "1/0", "0^-1", "1/(2-2)", "log 0", "log_1 5", "(1/2)!/(-1)", "(-3)!", "9^9^9", "100000!", "11:30",
     "3:1", "(1,2)", "x=1", "infinity", "C(10^10, 10^9)", "5 mod 0", "2^(1/2)", r"\begin{vmatrix}1&2\end{vmatrix}"],
)  # fmt: skip
def test_no_exact_value(text: str) -> None:
    assert algebra.value(parse(text)) is None


EQUAL = [
    ("sqrt(8)", "2sqrt(2)"), ("1/sqrt(3)", "sqrt(3)/3"), ("sqrt(2)+sqrt(3)", "sqrt(5+2sqrt(6))"), ("3+4i", "4i+3"),
    ("(1+i)^2", "2i"), ("e^{i\\pi}", "-1"), ("sin 30 degrees", "1/2"), (r"\tan 15^\circ", "2-sqrt(3)"), ("cis(pi)", "-1"),
    ("ln(e^2)", "2"), ("log_2 6", "1+log_2 3"), ("ln(8)/ln(2)", "3"), ("arctan(1)", "pi/4"), ("sin^{-1}(1/2)", "pi/6"),
    ("90 degrees", "pi/2"), ("x^2-1", "(x-1)(x+1)"), ("xy", "yx"), ("(x^2-1)/(x-1)", "x+1"), ("1/x+1/y", "(x+y)/(xy)"),
    ("sin^2 x+cos^2 x", "1"), ("cos 2x", "2cos^2 x-1"), ("sec x", "1/cos x"), ("2^{n+1}", "2*2^n"), ("sqrt(x^2)", "|x|"),
    ("ln(x^2)", "2ln x"), ("sqrt(12p^3)", "2p sqrt(3p)"), ("sqrt(x-50)", "(x-50)^(1/2)"), ("n!", "n(n-1)!"),
    (r"\binom{n}{2}", "n(n-1)/2"), ("f(2x)+1", "1+f(x+x)"), ("cbrt(-x)", "-cbrt(x)"), ("2^100000", "4^50000"),
    ("10^100000-10^99999", "9*10^99999"), ("pi r^2", "r*pi*r"), ("(x+1)^100", "((x+1)^50)^2"), ("infinity", "infinity"),
    ("1/0", "1/0"), ("(sqrt(5)+1)/2-2/(1+sqrt(5))", "1"), ("e^2 e^3", "e^5"), ("x^x x", "x^{x+1}"),
]  # fmt: skip
DIFFERENT = [
    ("sqrt(8)", "2sqrt(3)"), ("3+4i", "3-4i"), ("xy", "x+y"), ("x", "y"), ("sqrt(x^2)", "x"), ("|x|", "x"), ("f(x)", "f(y)"),
    ("f(x)", "g(x)"), ("f(x)", "f'(x)"), ("infinity", "-infinity"), ("infinity", "10^300"), ("e^300+1", "e^300"),
    ("e^(-300)+1", "1"),
    ("e^(10^4)+1", "e^(10^4)"), ("e^(-100sqrt(2))+1", "1"),
    ("10^100000", "10^100000+1"), ("sqrt(10^40+1)-10^20", "0"), ("sin(10^{39})", "sqrt(2)x"),
    ("e^(pi sqrt(163))", "262537412640768744"), ("x+10^-30", "x"), ("x^100+1", "x^100"), ("log x", "ln x"), ("-5", "5"),
    ("3.14159265358979323846264338327950288419716939937510", "pi"), ("sin x", "sin(x)+10^-20"), ("sqrt(x)", "sqrt(-x)"),
]  # fmt: skip
UNDECIDED = [
    ("9^9^9^9", "1"), ("1/0", "2"), ("x/(y-y)", "x"), ("(1,2)", "3"), ("11:30", "11/30"), ("3:1", "3"), ("100000!", "1"),
    ("e^e^e^e^e", "1"), ("dogs", "1"), ("e^(1000sqrt(2))+1", "e^(1000sqrt(2))"), ("tan(pi/2)", "1"), ("±1", "1"), ("log 0", "1"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a: str, b: str) -> None:
    assert same(a, b) is True


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert same(a, b) is False


@pytest.mark.parametrize(("a", "b"), UNDECIDED)
def test_undecided(a: str, b: str) -> None:
    assert same(a, b) is None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("y-2x-1", "2x-y+1", True),
        ("x-5", "10-2x", True),
        ("pi x-pi", "x-1", True),
        ("sqrt(2)x-2", "x-sqrt(2)", True),
        ("sin x", "2sin x", True),
        ("x^2-1", "x-1", False),
        ("x-y", "x+y", False),
        ("sqrt(x)", "x", False),
        ("x-x", "0", True),
        ("x", "0", False),
        ("3", "5", True),
        ("sqrt(2)", "5", True),
        ("sqrt(2)-sqrt(2)", "5", False),
        ("1/(x-x)", "x", None),
        ("(1,2)", "x", None),
        ("9^9^9^9", "x", None),
    ],
)
def test_proportional(a: str, b: str, expected: bool | None) -> None:
    assert algebra.proportional(parse(a), parse(b)) is expected
    assert algebra.proportional(parse(b), parse(a)) is expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("1/3", "0.34", -1), ("sqrt(2)", "1.4142135623730950488016887242096980785696718753769", 1), ("pi", "22/7", -1),
        ("sqrt(8)", "2sqrt(2)", 0), ("-infinity", "-10^300", -1), ("infinity", "infinity", 0), ("2", "i", None),
        ("x", "1", None), ("9^9^9^9", "1", None),
    ],
)  # fmt: skip
def test_order(a: str, b: str, expected: int | None) -> None:
    assert algebra.order(parse(a), parse(b)) == expected
    assert algebra.order(parse(b), parse(a)) == (None if expected is None else -expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi^2/6", "1.644934066848226436472415166646025189218949901206798437735558"),  # zeta(2)
        ("(1+sqrt(5))/2", "1.618033988749894848204586834365638117720309179805762862135449"),
        ("e^pi", "23.14069263277926900572908636794854738026610624260021199344504"),
        ("ln 2", "0.693147180559945309417232121458176568075500134360255254120680"),
    ],
)
def test_approximate_has_sixty_digits(text: str, expected: str) -> None:
    found = algebra.approximate(parse(text))
    with mpmath.workdps(80):
        assert abs(mpmath.mpf(expected) - mpmath.mpf(found.real)) < mpmath.mpf(10) ** -57


def test_evaluate_at() -> None:
    node = parse("x^2+sqrt(y)i")
    assert complex(algebra.evaluate_at(node, {"x": 3, "y": Fraction(1, 4)})) == 9 + 0.5j
    assert algebra.evaluate_at(node, {"x": 3}) is None
    assert algebra.evaluate_at(parse("1/x"), {"x": 0}) is None
    assert abs(complex(algebra.evaluate_at(parse("x^(1/3)"), {"x": -2.0})) + 2 ** (1 / 3)) < 1e-15


SIMPLE = """
1/2, -3/4, sqrt(6), 2sqrt(3), sqrt(2)/2, (1+sqrt(5))/2, 2x, x^2+2x+1, (x-1)(x+1), 2(x+1), 3pi/4, 2^2005, 3 1/2, 0.5, 5, -5, 1/x,
x/(x+1), 7/3, sqrt(x), 3+4i, 2+sqrt(3), pi-2, sin x, x^2y, 50%, 10^{100}, ln 2, (2+3sqrt(5))/7
"""
CLUMSY = """
2/4, sqrt(8), sqrt(16), 2+3, 2*3, 1/sqrt(2), x+x, 2x+3x, x*x, x^2/x, 2^3, 5!, 3 2/4, (2+4sqrt(3))/2, 2sqrt(3)/6, -(-3), 0.5/2,
4/2, 5/1, sqrt(3)sqrt(2), sqrt(2)+sqrt(2), x+0, 1x, x^1, 2pi/4, root(3,16), sqrt(1/2), log_2 8, 2/(-3)
"""


@pytest.mark.parametrize("text", SIMPLE.replace("\n", " ").split(", "))
def test_simplified(text: str) -> None:
    assert algebra.is_simplified(parse(text))


@pytest.mark.parametrize("text", CLUMSY.replace("\n", " ").split(", "))
def test_not_simplified(text: str) -> None:
    assert not algebra.is_simplified(parse(text))
    assert not algebra.is_simplified(parse("{" + text + ", 7}"))


# ------------------------------------------------------------------------------------------------- against sympy by hand
_X, _Y = sympy.symbols("x y")
_POLYNOMIALS = st.recursive(
    st.integers(-6, 6).map(sympy.Integer) | st.sampled_from([_X, _Y, sympy.Rational(1, 3), sympy.I]),
    lambda inner: st.tuples(st.sampled_from("+*^"), inner, inner).map(
        lambda t: {"+": t[1] + t[2], "*": t[1] * t[2], "^": t[1] ** 2}[t[0]]
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(_POLYNOMIALS)
def test_expansion_changes_no_value(polynomial: sympy.Expr) -> None:
    written = [parse(sympy.latex(form)) for form in (polynomial, sympy.expand(polynomial))]
    assert algebra.same_value(*written) is True
    other = parse(sympy.latex(sympy.expand(polynomial + _X / 7)))
    assert algebra.same_value(written[0], other) is False


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 40))
def test_radicals(inside: int, top: int, bottom: int) -> None:
    value = sympy.sqrt(inside) * sympy.Rational(top, bottom)  # sympy takes the squares out
    left = parse(f"{top} sqrt({inside})/{bottom}")
    assert algebra.same_value(left, parse(sympy.latex(value))) is True
    assert algebra.same_value(left, parse(f"{top} sqrt({inside + 1})/{bottom}")) is False
    exact = algebra.value(left)
    root = math.isqrt(inside)
    assert exact == (Fraction(top * root, bottom) if root * root == inside else None)


_ANGLES = (
    st.sampled_from([sympy.sin, sympy.cos, sympy.tan]),
    st.integers(-12, 12),
    st.sampled_from([1, 2, 3, 4, 5, 6, 12]),
)


@settings(max_examples=80, deadline=None)
@given(*_ANGLES)
def test_angles(function: type[sympy.Function], top: int, bottom: int) -> None:
    value = function(sympy.pi * sympy.Rational(top, bottom)).rewrite(sympy.sqrt)
    assume(value.is_finite)
    left = parse(f"\\{function.__name__}(\\frac{{{top}}}{{{bottom}}}\\pi)")
    assert algebra.same_value(left, parse(sympy.latex(value))) is True
    assert algebra.same_value(left, parse(sympy.latex(value + sympy.Rational(1, 10**6)))) is False


@settings(max_examples=100, deadline=None)
@given(
    st.fractions(-50, 50, max_denominator=40), st.integers(-6, 6), st.fractions(-50, 50, max_denominator=40)
)
def test_rational_arithmetic(a: Fraction, n: int, b: Fraction) -> None:
    assume(a != 0)
    assert algebra.value(parse(f"({a})^({n})-({b})*({a})")) == a**n - b * a


# ----------------------------------------------------------------------------------------------------------- bounded work
HOSTILE = [
    "9^9^9^9", "10^10^10!", "((((3!)!)!)!)!", "e^e^e^e^e", "(sqrt(x)+1)^1000000", "((x+1)^100000)^1000000", "(10^300)!",
    r"\binom{10^10}{5*10^9}", r"\log_{10^3000}{10^4500}", r"\sinh(\sinh(\sinh(\sinh(9))))", "root(9^9^9,2)", "2^(10^-30)",
    "(1+10^-400)^(10^400)", "1.5e300^1.5e300", "1500!" + "+1500!/1499!" * 40, "(3^9000/7^5000+5^6000/11^4000)" * 20,
    "(1+1/10^5000)" * 60, "10^5999*" * 100 + "1", "sqrt(" * 38 + "2" + ")" * 38, "tan(" * 38 + "2" + ")" * 38,
    r"\begin{vmatrix}" + r"\\".join("&".join(f"x{i}{j}" for j in range(9)) for i in range(9)) + r"\end{vmatrix}",
    "x^x^x^x^x^x^x", "sin(10^10^5)", "cis(10^9 i)", "lcm(" + ",".join(str(10**99 + k) for k in range(15)) + ")",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:16])
def test_hostile_input_is_bounded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node is visited once a walk, and no number ever gets long: nothing else can take time."""
    visits, longest = 0, 0
    visit, weigh = Evaluation.of, Evaluation._weighed

    def counted(self: Evaluation, node: Node) -> object:
        nonlocal visits, longest
        visits += 1
        found = visit(self, node)
        if isinstance(found, Fraction):
            longest = max(longest, found.numerator.bit_length(), found.denominator.bit_length())
        return found

    def weighed(self: Evaluation, value: Fraction) -> object:
        nonlocal longest
        longest = max(longest, value.numerator.bit_length(), value.denominator.bit_length())
        return weigh(self, value)

    monkeypatch.setattr(Evaluation, "of", counted)
    monkeypatch.setattr(Evaluation, "_weighed", weighed)
    node = parse(text)
    for other in ("1", "x+sqrt(2)", "0.333"):
        assert algebra.same_value(node, parse(other)) in (True, False, None)
        assert algebra.proportional(node, parse(other)) in (True, False, None)
    assert algebra.order(node, parse("pi")) in (-1, 0, 1, None)
    algebra.is_simplified(node)
    assert longest <= 100_000
    assert visits <= 100 * MAXIMUM_NODES


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789xyei+-*/^!|()., pqrtsn%", max_size=30))
def test_never_raises(text: str) -> None:
    try:
        node = parse(text)
    except ValueError:
        return
    other = parse("x+1.5")
    assert algebra.same_value(node, node) is True
    assert algebra.same_value(node, other) is algebra.same_value(other, node)
    algebra.proportional(node, other)
    algebra.order(node, other)
    algebra.is_simplified(node)


def test_modular_points_tell_polynomials_apart() -> None:
    """No product of a thousand random linear factors is taken for another one, and each equals its reordering."""
    generator = random.Random(5)
    x = Symbol("x")

    def product(roots: list[int]) -> Node:
        return Multiply(tuple(Add((x, Literal(Fraction(root)))) for root in roots))

    for _ in range(100):
        roots = [generator.randrange(-50, 50) for _ in range(20)]
        shuffled = generator.sample(roots, len(roots))
        assert algebra.same_value(product(roots), product(shuffled)) is True
        shuffled[0] += 1
        assert algebra.same_value(product(roots), product(shuffled)) is False


def test_the_primes_are_what_the_comment_says() -> None:
    for prime, imaginary in fields._PRIMES:
        assert sympy.isprime(prime)
        assert sympy.isprime((prime - 1) // 4)
        assert imaginary * imaginary % prime == prime - 1
    # a multiple of one prime is not taken for zero
    x = Symbol("x")
    multiple = Multiply((Literal(Fraction(fields._PRIMES[0][0])), x))
    assert algebra.same_value(multiple, Multiply((Literal(Fraction(0)), x))) is False


def test_threads_do_not_share_precision() -> None:
    found: list[bool | None] = []

    def work() -> None:
        for _ in range(20):
            found.append(same("sqrt(2)+sqrt(3)", "sqrt(5+2sqrt(6))"))
            found.append(same("e^(pi sqrt(163))", "262537412640768744") is False)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160
    assert mpmath.mp.dps == 15
