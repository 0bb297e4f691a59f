"""Answers one sign apart, which no policy may take for one, and answers far apart that every mathematician takes for one."""

from __future__ import annotations

import pytest

from latentthought.grading import GradePolicy, grade

DIFFERENT = r"""
x' | x
x'' | x'
A | A'
x^2+y | X^2+y
\pi r^2 | \pi R^2
\Delta | \delta
\overline{z} | z
1, 2, 3, ... | 1, 2, 3
\{\{1\}, 2\} | \{1, \{2\}\}
\{\{1\}, \{2\}\} | \{1, 2\}
\{\emptyset\} | \emptyset
P(A) = 1/2 | P(B) = 1/2
f(1) = 2 | g(1) = 2
f(1) = 2 | f(2) = 2
1 \pmod 3 | 1 \pmod 4
x \equiv 1 \pmod 3 | x \equiv 2 \pmod 3
7 \bmod 3 | 7
2024-01-02 | 2024-02-01
2024-01-02 | 2021
January 2, 2024 | January 2, 2023
5 | x + y = 5
5 | xy = 5
xy = x | y = 1
y = x | y/x = 1 + 1/x
(x^2-x)/x = 0 | x^2 = x
x^2 = 4 | x = 2 or x = -2
all real numbers except 3 | all real numbers
all real numbers except 3 | all real numbers greater than 3
[[1,2],[3,4]] | \begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}
\sum_{k=1}^{10} k | 54
\sum_{k=1}^{n} k | \sum_{k=1}^{m} k
2n, n \in \mathbb{Z} | 2n+1, n \in \mathbb{Z}
n\pi, n \in \mathbb{Z} | k\pi, k \in \mathbb{N}
x^2 + C | x^3 + c
0.12... | 0.\overline{12}
R\{3} | R\{4}
\det\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
"""
THE_SAME = r"""
xy = 1 | y = 1/x
y = k/x | xy = k
\frac{1}{a} + \frac{1}{b} = \frac{1}{c} | bc + ac = ab
2x = 10 | x = 5
5 = x | x = 5
a + b = 5 | 5
m + n = 12 | 12
f(2) + f(3) = 15 | 15
|x| < 3 | (-3, 3)
[[1,2],[3,4]] | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
x &= 2 \\ y &= 3 | (2, 3)
R \ {3} | \mathbb{R} \setminus \{3\}
\mathbb{R}\{3\} | x \ne 3
all real numbers except 3 | \mathbb{R} \setminus \{3\}
All real numbers except $x = 3$ | (-\infty, 3) \cup (3, \infty)
all real numbers except 0 and 1 | x \ne 0, 1
all real numbers x such that x > 3 | (3, \infty)
all real numbers greater than 3 | x > 3
all reals | (-\infty, \infty)
R | \mathbb{R}
none | \emptyset
\sum_{k=1}^{10} k | 55
\sum_{i=1}^{4} i^2 | 30
2\prod_{k=1}^{4} k | 48
0.1666... | 1/6
0.142857142857... | 1/7
3.14159... | \pi
\det\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | -2
4 \pmod 3 | 1 \pmod 3
x \equiv 1 mod 7 | 1 \pmod 7
Jan 2, 2024 | 2024-01-02
2nd of January 2024 | January 2, 2024
k\pi, k \in \mathbb{Z} | n\pi, n \in \mathbb{Z}
x^2 + C | x^2 + c
\sqrt{x}\sqrt{y} | \sqrt{xy}
\{\{1\}, \{2\}\} | \{\{2\}, \{1\}\}
"""
POLICIES = [GradePolicy(), GradePolicy(ordered=False), GradePolicy(precision=3), GradePolicy(precision=None)]


def _pairs(table: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in (line.split(" | ") for line in table.strip().splitlines())]


@pytest.mark.parametrize(("a", "b"), _pairs(DIFFERENT))
def test_near_misses_differ(a: str, b: str) -> None:
    for policy in POLICIES:
        assert not grade(a, b, policy).correct, policy
        assert not grade(b, a, policy).correct, policy


@pytest.mark.parametrize(("a", "b"), _pairs(THE_SAME))
def test_far_apart_and_the_same(a: str, b: str) -> None:
    assert grade(a, b).correct, grade(a, b)
    assert grade(b, a).correct, grade(b, a)
