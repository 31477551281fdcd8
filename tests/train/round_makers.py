"""A home in which rounds run in seconds: a random Llama, an sft and an rlf of it, a small reward model, votes."""

import random
import time
from pathlib import Path
from typing import Any

from sawyer.home import Home
from sawyer.loading import load_config
from sawyer.models import fingerprint
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.runs import Run
from sawyer.store import FeedbackStore
from tests.train.makers import make_ending_backbone, make_sft, pairs, recipe, sentence, write_lines
from train.reward_model import train_reward

SHAPE = {"vocab_size": 320, "hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64}


def make_recipe(folder: Path, backbone: Path, **of_round: Any) -> Recipe:
    """A recipe whose reward learns to tell 'bread' from 'stone', as in :func:`tests.train.makers.pairs`."""
    data = write_lines(folder / "pairs.jsonl", pairs(100, seed=9))
    prompts = write_lines(folder / "prompts.jsonl", [{"prompt": sentence(random.Random(n), 3)} for n in range(40)])
    reward = {"scratch": SHAPE, "sources": [{"name": data}], "epochs": 4, "lr": 3e-3, "batch_size": 16}
    ppo = {"steps": 3, "batch_size": 8, "minibatch_size": 8, "micro_batch": 8, "epochs": 1, "max_prompt": 32}
    return recipe(
        backbone,
        sft={"sources": [{"name": data}], "max_length": 64},
        reward={**reward, "max_length": 48, "held_out": 0.2, "save_every": 4},
        ppo={**ppo, "prompts": [{"name": prompts}], "max_new_tokens": 12, "lr": 1e-3, "normalize_samples": 16,
             "save_every": 1, "sample_every": 3, "watch": False, "held_out": 0.2},
        evaluate={"max_new_tokens": 12, "samples": 6},
        round={"fewest_votes": 20, "prompts": 24, **of_round},
    )  # fmt: skip


def make_home(folder: Path) -> tuple[Recipe, Home]:
    """The recipe and a home with sft@1, rlf@1 (a copy of it) and reward@1 current; no votes yet."""
    folder.mkdir(parents=True, exist_ok=True)
    backbone = make_ending_backbone(folder / "backbone")
    told, home = make_recipe(folder, backbone), Home(folder / "home").ensure()
    registry = Registry.of(told, home)
    mark = fingerprint(backbone, load_config(backbone, told.model))
    sft = make_sft(backbone, folder / "sft")
    with Run(folder / "reward", step="reward", recipe=told) as run:
        reward = train_reward(told, run)
    made = [registry.register(stage, sft, info={"backbone": mark}) for stage in ("sft", "rlf")]
    registry.promote(*(version.ref for version in [*made, registry.register("reward", reward, info={})]))
    return told, home


def add_votes(home: Home, count: int, *, seed: int = 0, voters: int = 5, upside_down: bool = False) -> None:
    """So many votes for the answer with 'bread' over that with 'stone' (or the other way round)."""
    with FeedbackStore.open(home.db_url) as store:
        for place, pair in enumerate(pairs(count, seed=seed)):
            turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": pair["prompt"]}])
            for stage, text in (("sft", pair["rejected"]), ("rlf", pair["chosen"])):
                store.add_completion(turn, stage, prompt_text="", text=text, tokens=4, finish_reason="stop")
            seconds = time.time() + 5  # long enough to have read both
            store.add_vote(turn, "sft" if upside_down else "rlf", voter=f"v{place % voters}", created=seconds)
