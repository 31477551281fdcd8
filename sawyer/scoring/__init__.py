"""Scores of texts: rewards see a prompt and a response as text, never the policy's tokens.

Used while training (``train.rewards``), in evaluation, and beside each reply in the demo.
"""

from sawyer.scoring.classifier import ClassifierScorer, label_index, longest_input
from sawyer.scoring.function import FunctionScorer
from sawyer.scoring.penalties import LengthScorer, RepetitionScorer
from sawyer.scoring.reward import (
    Part,
    Reward,
    Scores,
    TotalScorer,
    build_reward,
    build_scorer,
    display_scorer,
    explain,
    with_own,
)
from sawyer.scoring.rouge import RougeScorer, rouge_l
from sawyer.scoring.service import HttpScorer
from sawyer.scoring.text import TextScorer, encode_pair, encode_single, join_pair, reward_text

__all__ = [
    "ClassifierScorer",
    "FunctionScorer",
    "HttpScorer",
    "LengthScorer",
    "Part",
    "RepetitionScorer",
    "Reward",
    "RougeScorer",
    "Scores",
    "TextScorer",
    "TotalScorer",
    "build_reward",
    "build_scorer",
    "display_scorer",
    "encode_pair",
    "encode_single",
    "explain",
    "join_pair",
    "label_index",
    "longest_input",
    "reward_text",
    "rouge_l",
    "with_own",
]
