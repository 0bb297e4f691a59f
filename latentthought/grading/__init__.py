"""Judging an answer: find it in a text, bring it into one form, compare. Imports no torch, runs no text, cannot hang.

Every scan is linear in the text and every number is bounded before it becomes one, so a megabyte of braces costs a second or
two at most and `1E999999999` costs nothing.
"""

from latentthought.grading.equivalence.ladder import equivalent
from latentthought.grading.extraction.rules import Extraction, extract_answer
from latentthought.grading.grader import grade
from latentthought.grading.normalization.plain import normalize
from latentthought.grading.policy import GradePolicy
from latentthought.grading.verdict import Verdict

__all__ = ["Extraction", "GradePolicy", "Verdict", "equivalent", "extract_answer", "grade", "normalize"]
