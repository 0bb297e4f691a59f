"""math-verify as it ships, in a child that can be killed: its timeouts are signals, and some inputs hang it all the same.

python -m benchmarks.rival_grader      # reads [prediction, gold] as JSON lines, answers true, false or null (an exception)
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from importlib.util import find_spec

LIMIT = 12.0  # seconds for a pair: three of its own time limits of 5 s could be that long, were they kept


def installed() -> bool:
    return find_spec("math_verify") is not None


class Rival:
    """The parent's side. `judge` gives "correct", "wrong", "error" or "hangs", and the seconds that it took."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def _start(self) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.rival_grader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()  # ready: imports do not count
        return process

    def judge(self, prediction: str, gold: str) -> tuple[str, float]:
        if self.process is None:
            self.process = self._start()
        assert self.process.stdin is not None and self.process.stdout is not None
        begun = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps([prediction, gold]) + "\n")
            self.process.stdin.flush()
            ready, _, _ = select.select([self.process.stdout], [], [], LIMIT)
            line = self.process.stdout.readline() if ready else ""
        except BrokenPipeError:
            line = ""
        taken = time.perf_counter() - begun
        if not line:
            self.close()
            return ("hangs" if taken >= LIMIT else "error"), taken
        return {True: "correct", False: "wrong", None: "error"}[json.loads(line)], taken

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def main() -> None:
    from math_verify import parse, verify

    print("ready", flush=True)
    for line in sys.stdin:
        prediction, gold = json.loads(line)
        try:
            found = bool(verify(parse(gold), parse(prediction)))
        except Exception:
            found = None
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
