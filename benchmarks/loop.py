"""Five feedback rounds among simulated people: does what they secretly like rise, and does the gate hold?

    python benchmarks/loop.py                        # tiny, three towns; --json for one JSON object
    python benchmarks/loop.py --recipe nano --rounds 2 --towns honest --votes 200
    python benchmarks/loop.py --set ppo.steps=20     # keys of the recipe

Each town begins with the same trained model. In every round the current stages answer new prompts, people vote, and
`sawyer round` runs as a user runs it. The hidden utility is measured on prompts of its own, which nobody ever votes on.
Town ``honest``: noise and a liking for the first place. ``spam``: 30 % vote for one place without reading. ``poison``:
an honest round, then so many votes for the worst answer that they outnumber the others three to one.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from sawyer.data import Message, load_prompts
from sawyer.evaluation.stats import compare
from sawyer.home import Home
from sawyer.recipe import DataSource, Recipe, load_recipe
from sawyer.rounds import RoundBook
from sawyer.simulated import answers_of, crowd, hold_votes, load_current, utility
from sawyer.store import FeedbackStore

ROOT = Path(__file__).resolve().parents[1]
TOWNS = ("honest", "spam", "poison")
PEOPLE = 20
MEASURED = 200
# What the tiny recipe needs to learn from some hundred votes: a reward model that hears people alone (the starter set's
# pairs, written by hand, are about other things, and one that small has no room for both), and PPO for longer. Its
# replies are word salad, and nothing is as varied as that: whatever it learns makes it less so. They never end within
# their 24 tokens: with a penalty for that, brevity is what it would learn first.
TINY = (
    "threads=1",
    "reward.epochs=3",
    "reward.lr=2e-3",
    "reward.text_steps=0",
    "ppo.steps=25",
    "ppo.missing_eos_penalty=0",
    "ppo.batch_size=32",
    "ppo.minibatch_size=16",
    "ppo.micro_batch=16",
    "ppo.kl.target=10",
    "ppo.kl.horizon=320",
    "ppo.save_every=25",
    "ppo.sample_every=25",
    "round.reward_from=nothing",
    "round.earlier=0",
    "round.prompts=200",
    "round.gate.kl=25",
    "round.gate.distinct=0.6",
)


# Nano: as with tiny, a reward model that begins anew and hears people alone; everything else is the recipe's.
NANO = ("reward.epochs=4", "reward.lr=1e-3", "reward.text_steps=0", "round.reward_from=nothing", "round.earlier=0")
SETTINGS = {"tiny": TINY, "nano": NANO}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--votes", type=int, default=300, help="votes before each round")
    parser.add_argument("--towns", default=",".join(TOWNS))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--home", type=Path, help="a home with a trained model; default: one is trained (tiny)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    overrides = [*SETTINGS.get(given.recipe, ()), *given.overrides]
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        if given.home is not None:
            shutil.copytree(given.home, start)
        elif given.recipe == "tiny":
            sawyer(["pipeline", "tiny", "--home", str(start), "--set", "threads=1"])
        found: dict[str, Any] = {"recipe": given.recipe, "votes_a_round": given.votes, "overrides": overrides}
        for name in given.towns.split(","):
            home = Home(Path(folder) / name)
            if start.exists():
                shutil.copytree(start, home.root)
            found[name] = Town(name, given.recipe, overrides, home.ensure(), given.votes).live(given.rounds)
    print(json.dumps(found) if given.json else table(found))


class Town:
    """One home, its people, and its rounds."""

    def __init__(self, name: str, recipe: str, overrides: list[str], home: Home, votes: int) -> None:
        self.name, self.home, self.votes, self.overrides = name, home, votes, overrides
        self.recipe: Recipe = load_recipe(recipe, overrides)
        prompts = prompts_at_hand()
        self.measured, self.asked = prompts[:MEASURED], prompts[MEASURED:]

    def live(self, rounds: int) -> dict[str, Any]:
        """Vote and run a round, again and again; what came of it."""
        utilities, ends = [self.utility()], []
        for number in range(1, (2 if self.name == "poison" else rounds) + 1):
            ends.append(self.round(number))
            utilities.append(self.utility())
            said = f"{ends[-1]['state']}, hidden utility {np.mean(utilities[-1]):.3f}. {' '.join(ends[-1]['reasons'])}"
            say(f"{self.name} {number}: {said}")
        tests = compare(utilities[0], utilities[-1])
        return {
            "rounds": ends,
            "utility": [float(np.mean(each)) for each in utilities],
            "gain": {"value": tests.difference.value, "low": tests.difference.low, "high": tests.difference.high},
            "paired_t_p": tests.t_p,
            "prompts": len(self.measured),
        }

    def round(self, number: int) -> dict[str, Any]:
        """Some votes, then one round; its state, reasons and figures."""
        cast = self.hold_votes(number)
        return {"votes_cast": cast, **self.run_round(number)}

    def hold_votes(self, number: int) -> int:
        """The votes before a round; how many were cast."""
        poisoned = self.name == "poison" and number > 1
        people = crowd(PEOPLE, spammers=0.3 if self.name == "spam" else 0, poisoners=1.0 if poisoned else 0)
        wanted = self.votes * (3 if poisoned else 1)
        start = (number - 1) * self.votes
        prompts = [self.asked[(start + place) % len(self.asked)] for place in range(wanted)]
        with FeedbackStore.open(self.home.db_url) as store:
            return hold_votes(store, self.recipe, self.home, people, prompts, seed=number)

    def run_round(self, number: int) -> dict[str, Any]:
        """`sawyer round` as a user runs it; its state, reasons and figures."""
        begun = time.monotonic()
        sets = [part for override in self.overrides for part in ("--set", override)]
        code = sawyer(["round", self.recipe.name, "--home", str(self.home.root), *sets], allowed=(0, 3))
        seconds = round(time.monotonic() - begun, 1)
        found = RoundBook(self.home, self.recipe.name).detail(number)
        told = {"state": found.state, "exit_code": code, "reasons": found.reasons}
        return {
            **told,
            "figures": found.figures,
            "seconds": seconds,
            "step_seconds": {s.name: s.seconds for s in found.steps},
        }

    def utility(self) -> list[float]:
        """Hidden utility of the current rlf's answers to the prompts that are kept for this."""
        policy = load_current(self.recipe, self.home)
        said = answers_of(policy, self.recipe, "rlf", self.measured, seed=99)
        return [utility(p[-1]["content"], text) for p, text in zip(self.measured, said, strict=True)]


def prompts_at_hand() -> list[list[Message]]:
    """Short single questions of the starter set, shuffled once and for all."""
    names = ("starter/prompts", "starter/pairs", "starter/conversations", "starter/everyday")
    found = [p.messages for p in load_prompts([DataSource(name=name) for name in names], 0)]
    short = [m for m in found if len(m) == 1 and len(m[0]["content"]) < 120]
    random.Random(5).shuffle(short)
    return short


def sawyer(arguments: list[str], allowed: tuple[int, ...] = (0,)) -> int:
    """Run a command as a user does; its output is shown when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "sawyer.cli.app", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode not in allowed:
        raise SystemExit(f"sawyer {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.returncode


def table(found: dict[str, Any]) -> str:
    """The towns as Markdown."""
    lines = [
        "| town | hidden utility before and after each round | gain [95 %] | p | rounds |",
        "|---|---|---|---|---|",
    ]
    for name in (town for town in TOWNS if town in found):
        town, gain = found[name], found[name]["gain"]
        rises = " → ".join(f"{value:.2f}" for value in town["utility"])
        p = "–" if town["paired_t_p"] is None else f"{town['paired_t_p']:.1g}"
        ends = ", ".join(end["state"] for end in town["rounds"])
        lines.append(
            f"| {name} | {rises} | {gain['value']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}] | {p} | {ends} |"
        )
    for name in (town for town in TOWNS if town in found):
        for number, end in enumerate(found[name]["rounds"], 1):
            lines += [f"\n{name}, round {number} ({end['seconds']:.0f} s), refused: {why}" for why in end["reasons"]]
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
