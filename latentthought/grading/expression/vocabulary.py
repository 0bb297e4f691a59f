"""What names, LaTeX commands and signs mean to the lexer: tables only."""

from __future__ import annotations

import re

_Meaning = tuple[str, str | None]

_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega"
)
_ANGLE_NAMES = "sin cos tan cot sec csc sinh cosh tanh cis"
_FUNCTION_NAMES = "arcsin arccos arctan arccot arcsec arccsc exp ln log sqrt root abs floor gcd lcm max min"
_SHORT_WORDS = "am an as at be by do go he if is it me my no of on pm so up us we"
_BASE_NAMES = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"

_GREEK = _GREEK_NAMES.split()
ANGULAR = frozenset(_ANGLE_NAMES.split())
INVERSES = {name: f"arc{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc")}
# one spelling a function
_FUNCTIONS = {
    **{name: name for name in (*_ANGLE_NAMES.split(), *_FUNCTION_NAMES.split())},
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "cosec": "csc",
    "tg": "tan",
    "ctg": "cot",
    "lg": "log",
    "cbrt": "cbrt",
    "ceil": "ceil",
    "ceiling": "ceil",
    "choose": "binomial",
    "binom": "binomial",
    "binomial": "binomial",
    "factorial": "factorial",
}

_SHARED: dict[str, _Meaning] = {
    **{name: ("symbol", name) for name in _GREEK},
    **{name: ("function", function) for name, function in _FUNCTIONS.items()},
    "pi": ("constant", "pi"),
    "in": ("relation", "in"),
}

COMMANDS: dict[str, _Meaning] = {
    **_SHARED,
    **{f"var{name}": ("symbol", name) for name in _GREEK[:24]},
    **dict.fromkeys(("frac", "dfrac", "tfrac", "cfrac"), ("frac", None)),
    **dict.fromkeys(("binom", "dbinom", "tbinom"), ("binom", None)),
    "choose": ("choose", None),
    "det": ("determinant", None),
    "sum": ("repeated", "sum"),
    "prod": ("repeated", "product"),
    "ell": ("symbol", "l"),
    "infty": ("constant", "infinity"),
    **dict.fromkeys(("cdot", "times", "ast"), ("*", None)),
    "div": ("/", None),
    "pm": ("±", None),
    "mp": ("±", None),
    "le": ("relation", "<="),
    "leq": ("relation", "<="),
    "leqslant": ("relation", "<="),
    "ge": ("relation", ">="),
    "geq": ("relation", ">="),
    "geqslant": ("relation", ">="),
    "lt": ("relation", "<"),
    "gt": ("relation", ">"),
    "ne": ("relation", "!="),
    "neq": ("relation", "!="),
    "approx": ("relation", "~"),
    "sim": ("relation", "~"),
    "equiv": ("relation", "="),
    "cup": ("set operation", "union"),
    "bigcup": ("set operation", "union"),
    "cap": ("set operation", "intersection"),
    "setminus": ("set operation", "difference"),
    "backslash": ("set operation", "difference"),
    "emptyset": ("set", "empty"),
    "varnothing": ("set", "empty"),
    "land": ("separator", "and"),
    "wedge": ("separator", "and"),
    "lor": ("separator", "or"),
    "vee": ("separator", "or"),
    "mid": ("|", None),
    "vert": ("|", None),
    "colon": (":", None),
    "lvert": ("|(", None),
    "rvert": ("|)", None),
    "lVert": ("|(", None),
    "rVert": ("|)", None),
    "lfloor": ("floor(", None),
    "rfloor": ("floor)", None),
    "lceil": ("ceil(", None),
    "rceil": ("ceil)", None),
    "langle": ("angle(", None),
    "rangle": ("angle)", None),
    "lbrace": ("\\{", None),
    "rbrace": ("\\}", None),
    "pmod": ("pmod", None),
    "bmod": ("mod", None),
    "mod": ("mod", None),
    "overline": ("overline", None),
    "prime": ("prime", None),
}

NAMES: dict[str, _Meaning] = {
    **_SHARED,
    "e": ("constant", "e"),
    "i": ("constant", "i"),
    **dict.fromkeys(("inf", "infty", "infinity", "oo"), ("constant", "infinity")),
    "and": ("separator", "and"),
    "or": ("separator", "or"),
    "to": (":", None),
    "union": ("set operation", "union"),
    "mod": ("mod", None),
    **dict.fromkeys(("degrees", "degree", "deg"), ("degrees", None)),
    "percent": ("percent", None),
    "π": ("constant", "pi"),
    "θ": ("symbol", "theta"),
}
del NAMES["choose"]

SIGNS: dict[str, _Meaning] = {
    **{sign: (sign, None) for sign in "+-*/^_!:|()[]{}&"},
    "**": ("^", None),
    "\\\\": ("row", None),
    "\\{": ("\\{", None),
    "\\}": ("\\}", None),
    "\\|": ("|", None),
    "\\&": ("&", None),
    "\\": ("set operation", "difference"),
    "%": ("percent", None),
    "\\%": ("percent", None),
    "+/-": ("±", None),
    ",": ("separator", ","),
    ";": ("separator", ","),
    "=": ("relation", "="),
    "==": ("relation", "="),
    "<": ("relation", "<"),
    ">": ("relation", ">"),
    "<=": ("relation", "<="),
    "=<": ("relation", "<="),
    ">=": ("relation", ">="),
    "!=": ("relation", "!="),
    # normalisation turns these into commands; they cost nothing here
    "−": ("-", None),
    "×": ("*", None),
    "·": ("*", None),
    "⋅": ("*", None),
    "÷": ("/", None),
    "±": ("±", None),
    "≤": ("relation", "<="),
    "≥": ("relation", ">="),
    "≠": ("relation", "!="),
    "≈": ("relation", "~"),
    "∈": ("relation", "in"),
    "∪": ("set operation", "union"),
    "∩": ("set operation", "intersection"),
    "∖": ("set operation", "difference"),
    "∅": ("set", "empty"),
    "∞": ("constant", "infinity"),
    "√": ("function", "sqrt"),
    "°": ("degrees", None),
}

# letters that algebra uses for variables: a short run of them is a product rather than a word
VARIABLES = frozenset("abcdkmnpqrstuvwxyz")
LONE_WORDS = frozenset(_SHORT_WORDS.split())
CALLED = re.compile(
    "[a-z]?(?:sin|cos|tan|cot|sec|csc|ln|log)(?:[xyz]|theta)"
)  # sinx standing alone is no word
EMBEDDED = re.compile("arcsin|arccos|arctan|sqrt|theta|alpha|beta|sin|cos|tan|cot|sec|csc|log|ln|pi")

SETS = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes", "empty": "empty"}
PHRASES = {
    **dict.fromkeys(
        [
            "all real numbers",
            "all reals",
            "all real values",
            "real numbers",
            "the real numbers",
            "reals",
            "any real number",
            "every real number",
        ],
        "reals",
    ),
    **dict.fromkeys(["all integers", "integers", "the integers"], "integers"),
    **dict.fromkeys(
        [
            "empty set",
            "the empty set",
            "no solution",
            "no solutions",
            "no real solution",
            "no real solutions",
            "no real roots",
            "no such number",
            "no such numbers",
            "none",
        ],
        "empty",
    ),
}
BASES = {name: base for base, name in enumerate(_BASE_NAMES.split(), start=2)}
