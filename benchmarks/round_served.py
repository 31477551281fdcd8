"""One feedback round from start to end with a server beside it: votes, `sawyer round`, and the version that is served.

    python benchmarks/round_served.py                      # nano, 200 votes of simulated people; --json
    python benchmarks/round_served.py --recipe tiny --votes 300 --home DIR

Simulated people vote on what the current stages say (as in loop.py). Then `sawyer serve` answers while `sawyer round`
runs, and is asked what it serves until that is what was promoted, and again after `sawyer models rollback`. Exit code 1
if the round was refused. With ``--home`` the home is kept (and needs a trained model, where the recipe ships none).
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.loop import SETTINGS, TOWNS, Town, sawyer, say
from benchmarks.server import Server, serving
from sawyer.home import Home

ASKED = 80  # prompts on which the hidden utility is measured
PATIENCE = 60.0  # seconds until a promoted version must be served; it takes one or two


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--votes", type=int, default=200)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    overrides = [*SETTINGS.get(given.recipe, ()), *given.overrides]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(given.home or Path(folder) / "home").ensure()
        found = measure(Town(TOWNS[0], given.recipe, overrides, home, given.votes))
    print(json.dumps(found, indent=None if given.json else 2))
    return 0 if found["state"] == "promoted" else 1


def measure(town: Town) -> dict[str, Any]:
    """What the round did and how long it took, and what was served before, after, and after going back."""
    town.measured = town.measured[:ASKED]
    before = town.utility()
    begun = time.monotonic()
    town.hold_votes(1)
    voting = time.monotonic() - begun
    say(f"{town.votes} votes in {voting:.0f} s")
    with serving(town.recipe.name, home=town.home.root) as server:
        versions = [rlf_of(server)]
        end = town.run_round(1)
        if end["state"] == "promoted":
            promoted = time.monotonic()
            versions.append(other_than(server, versions[-1]))
            end["seconds_until_served"] = round(time.monotonic() - promoted, 1)
            end["said"] = ask(server)
            after = town.utility()
            end["hidden_utility"] = [sum(each) / len(each) for each in (before, after)]
            sawyer(["models", "rollback", town.recipe.name, "rlf", "--home", str(town.home.root)])
            versions.append(other_than(server, versions[-1]))
    return end | {"served": versions, "seconds_of_voting": round(voting, 1)}


def rlf_of(server: Server) -> str:
    """The version of rlf that the server shows on /v1/models."""
    with urllib.request.urlopen(f"{server.url}/v1/models", timeout=60) as answer:
        return next(each["root"] for each in json.load(answer)["data"] if each["id"] == "sawyer-rlf")


def other_than(server: Server, version: str) -> str:
    """The version that is served once it is another one."""
    deadline = time.monotonic() + PATIENCE
    while (now := rlf_of(server)) == version:
        if time.monotonic() > deadline:
            raise SystemExit(f"{version} was still served after {PATIENCE:g} seconds.")
        time.sleep(0.2)
    return now


def ask(server: Server) -> str:
    """What the current rlf says to a question."""
    asked = [{"role": "user", "content": "How do I make a good cup of tea?"}]
    body = json.dumps({"model": "sawyer-rlf", "messages": asked, "max_tokens": 40, "temperature": 0}).encode()
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


if __name__ == "__main__":
    sys.exit(main())
