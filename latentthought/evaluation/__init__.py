"""Scoring a model on a task: tasks, runner, controls, intervals, results. torch is imported when a model is run, not before."""

from latentthought.evaluation.comparison import Comparison, compare, render_comparison
from latentthought.evaluation.contamination import Contamination, overlap
from latentthought.evaluation.decoding import CONTROLS, controls_for
from latentthought.evaluation.diagnosis import Finding, diagnose, render_findings
from latentthought.evaluation.results import Results, find_results
from latentthought.evaluation.runner import evaluate
from latentthought.evaluation.samples import Sample, read_samples
from latentthought.evaluation.statistics import Estimate, PairedDifference, mcnemar, paired_difference, wilson
from latentthought.evaluation.tables import render, render_groups
from latentthought.evaluation.tasks import TaskConfig, load_task
from latentthought.evaluation.validation import validation_scorer

__all__ = [
    "CONTROLS",
    "Comparison",
    "Contamination",
    "Estimate",
    "Finding",
    "PairedDifference",
    "Results",
    "Sample",
    "TaskConfig",
    "compare",
    "controls_for",
    "diagnose",
    "evaluate",
    "find_results",
    "load_task",
    "mcnemar",
    "overlap",
    "paired_difference",
    "read_samples",
    "render",
    "render_comparison",
    "render_findings",
    "render_groups",
    "validation_scorer",
    "wilson",
]
