"""PPO in three strata: pure maths, collection and forward passes, and a loop that reads like the paper."""

from train.ppo.loop import train_ppo

__all__ = ["train_ppo"]
