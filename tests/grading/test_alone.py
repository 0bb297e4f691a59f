"""The grader is usable alone: nothing heavy is imported with it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from latentthought import grade
assert grade("1", "1").correct
print(*sorted({"torch", "transformers", "datasets", "sympy", "pydantic"} & set(sys.modules)))
"""


def test_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
