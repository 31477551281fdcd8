"""One feedback round: snapshot, reward, normalise, rlf, evaluate, gate, promote. See docs/rounds.md."""

from train.round.machine import check_recipe, continue_round, run_round

__all__ = ["check_recipe", "continue_round", "run_round"]
