"""Names in front of values, equations, inequalities in several variables, systems."""

from __future__ import annotations

import pytest

from latentthought.grading import equivalent

SAME = [
    ("x=5", "5"),
    ("5=x", "x = 5"),
    ("x = 5", "x=5.0"),
    ("2x = 10", "x = 5"),
    ("y=2x+1", "2x+1"),
    ("y = 2x + 1", "2x - y + 1 = 0"),
    ("y - 1 = 2x", "y=2x+1"),
    ("f(x) = x^2", "x^2"),
    ("f(x) = x^2-1", "f(t) = (t-1)(t+1)"),
    ("f(x) = 2x", "y = 2x"),
    (r"P(A) = \frac14", "0.25"),
    (r"\cos\theta = -\frac{24}{25}", r"-\frac{24}{25}"),
    ("a + b = 5", "5"),
    ("3 \\times 4 = 12", "12"),
    (r"x = \sqrt{2} \approx 1.414", r"\sqrt{2}"),
    (r"x \approx 1.414", r"x = \sqrt2"),
    ("x=1 or x=2", r"\{1, 2\}"),
    ("x=1, x=2", "2, 1"),
    ("x = 1, 2", "x=2 or x=1"),
    (r"x = \pm 3", "x = 3 or x = -3"),
    (r"x = \pm 3", "3, -3"),
    (r"x \in \{1, 2\}", "x = 1 or x = 2"),
    ("x=1, y=2", "(1,2)"),
    ("y=2, x=1", "(1,2)"),
    ("x=1, y=2", "y=2, x=1"),
    ("(x,y) = (1,2)", "x = 1 and y = 2"),
    ("(x,y) = (1,2)", "(1,2)"),
    ("(y,x) = (2,1)", "(x,y) = (1,2)"),
    ("(x,y) = (1,2) or (x,y) = (3,4)", "(3,4), (1,2)"),
    ("x_1 = 3, x_2 = 4", "4, 3"),
    ("x_1 = 3, x_2 = 4", "x = 3 or x = 4"),
    ("a=1, b=2, c=3", "1, 2, 3"),
    ("x = y = 2", "x = 2, y = 2"),
    ("x = y = 2", "(2, 2)"),
    (r"\frac{x^2}{4}+\frac{y^2}{9}=1", "9x^2 + 4y^2 = 36"),
    ("(x-1)^2+(y+2)^2=9", "x^2+y^2-2x+4y-4=0"),
    ("y > 2x + 1", "2x + 1 < y"),
    ("y > 2x + 1", "2y - 4x > 2"),
    ("x + y = 3, x - y = 1", "x - y = 1 and x + y = 3"),
    ("a < b < c", "c > b > a"),
    (r"A = \begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    (r"\frac12\begin{pmatrix} 2 \\ 4 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"-\begin{pmatrix} 2 \\ 4 \end{pmatrix}", r"\begin{pmatrix} -2 \\ -4 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)"),
    (r"\begin{pmatrix} \sqrt8 \\ 1/2 \end{pmatrix}", r"\begin{bmatrix} 2\sqrt2 \\ 0.5 \end{bmatrix}"),
    (r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}", "-2"),
]
DIFFERENT = [
    ("x=5", "y=5"),
    ("x=5", "6"),
    ("x=5", "x=6"),
    ("2x + 1 = 5", "5"),
    ("2x = 10", "10"),
    ("x^2 = 9", "9"),
    ("x - y = 0", "0"),
    ("y=2x+1", "y=2x-1"),
    ("y=2x+1", "x=2y+1"),
    ("y=2x+1", "2x-1"),
    ("y=2x+1", "2x+1=0"),
    ("2x+1", "2x+1=0"),
    ("f(x)=x^2", "g(x)=x^2"),
    ("f(x)=x^2", "f(t)=x^2"),
    ("x+1 = x+1", "y = y"),
    ("x^2 = 0", "x = 0"),
    ("0.56 = 5\\%", "0.56 = 56\\%"),
    ("2 < 5", "2 < 6"),
    ("x=1 or x=2", "(1,2)"),
    ("x = y = 2", "x = 2"),
    ("x=1 or x=2", "x=1"),
    ("x=1 or x=2", "x=1 or x=3"),
    ("x=1, y=2", "(2,1)"),
    ("x=1, y=2", "2, 1"),
    ("x=1, y=2", r"\{1, 2\}"),
    ("x=1, y=2", "x=2, y=1"),
    ("x_1 = 3, x_2 = 4", "x_1 = 4, x_2 = 3"),
    ("(x,y) = (1,2)", "(2,1)"),
    ("x = 1 and y = 2", "x = 1 and z = 2"),
    ("y > 2x + 1", "y >= 2x + 1"),
    ("y > 2x + 1", "y < 2x + 1"),
    ("y > 2x + 1", "-y > -2x - 1"),
    ("a < b < c", "a < c < b"),
    (r"\frac{x^2}{9}+\frac{y^2}{4}=1", r"\frac{x^2}{4}+\frac{y^2}{9}=1"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "(1,2,3,4)"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\{1, 2\}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(2, 1)"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "[1, 2]"),
    (r"\begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}", "-1"),
    (r"\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str) -> None:
    assert equivalent(a, b)[0] and equivalent(b, a)[0], (equivalent(a, b), equivalent(b, a))


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert not equivalent(a, b)[0] and not equivalent(b, a)[0], (equivalent(a, b), equivalent(b, a))
