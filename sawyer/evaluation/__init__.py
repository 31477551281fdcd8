"""Evaluation: stages answer held-out prompts, a reward model scores them, statistics say what the scores prove."""

from sawyer.evaluation.contestants import Models
from sawyer.evaluation.evaluate import evaluate
from sawyer.evaluation.report import Report
from sawyer.evaluation.table import print_report

__all__ = ["Models", "Report", "evaluate", "print_report"]
