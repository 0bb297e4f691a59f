"""Verdicts in killable child processes, and math-verify, which is only ever asked there."""
