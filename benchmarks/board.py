"""How long the board takes, from votes in an SQLite store to every figure.

    python benchmarks/board.py                      # 10,000 votes of 500 people
    python benchmarks/board.py --votes 100000 --voters 5000 --json

Each vote chooses one of three replies of a turn of its own; a tenth are ties. ``read`` is reading all votes from the
store, ``read_one_more`` reading on after another vote, ``work`` making the board: medians of ``--rounds``, in seconds.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import insert

from sawyer.preferences import BallotBox, make_board
from sawyer.store import FeedbackStore
from sawyer.store.ids import new_id
from sawyer.store.schema import completions, conversations, turns, votes
from sawyer.types import STAGES, BoardQuery

PROMPT = "### User:\nHow do I boil an egg?\n\n### Assistant:\n" * 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, default=10_000)
    parser.add_argument("--voters", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FeedbackStore.open(f"sqlite:///{folder}/sawyer.db") as store:
        fill(store, given.votes, given.voters)
        measured = [measure(store) for _ in range(given.rounds)]
    seconds = {name: round(median(each[name] for each in measured), 3) for name in measured[0]}
    result = {"votes": given.votes, "voters": given.voters, "seconds": seconds}
    print(json.dumps(result) if given.json else f"{given.votes} votes: {seconds}")


def fill(store: FeedbackStore, count: int, people: int) -> None:
    """Put the votes there in one transaction: only reading them is measured."""
    draw, now = random.Random(0), time.time()
    tables: dict = {conversations: [], turns: [], completions: [], votes: []}
    for _ in range(count):
        conversation, turn = new_id(), new_id()
        tables[conversations].append({"id": conversation, "recipe": "nano", "voter": None, "created": now})
        messages = [{"role": "user", "content": "How do I boil an egg?"}]
        tables[turns].append({"id": turn, "conversation_id": conversation, "messages": messages, "created": now})
        shown = [reply(turn, stage, draw) for stage in STAGES]
        tables[completions] += shown
        choice = "tie" if draw.random() < 0.1 else draw.choices(STAGES, (1, 2, 3))[0]
        row = {"id": new_id(), "turn_id": turn, "voter": f"voter-{draw.randrange(people)}", "choice": choice}
        row |= {"shown": [each["id"] for each in shown], "position": draw.randrange(3), "created": now}
        chosen = next((each["id"] for each in shown if each["stage"] == choice), None)
        tables[votes].append(row | {"completion_id": chosen})
    with store._database.write() as connection:
        for table, rows in tables.items():
            connection.execute(insert(table), rows)


def reply(turn: str, stage: str, draw: random.Random) -> dict:
    """A row of completions: blind, of random length and reward."""
    tokens = draw.randrange(5, 97)
    row = {"id": new_id(), "turn_id": turn, "stage": stage, "adapter_version": f"{stage}@1", "prompt_text": PROMPT}
    row |= {"sampling": {"pane": "ABC"[STAGES.index(stage)]}, "text": "word " * tokens + new_id(), "tokens": tokens}
    return row | {"finish_reason": "stop", "seconds": 0.5, "reward": draw.gauss(0, 1), "created": time.time()}


def measure(store: FeedbackStore) -> dict[str, float]:
    began = time.perf_counter()
    box = BallotBox(store)
    _, found = box.ballots()
    read = time.perf_counter()
    board = make_board(found, BoardQuery(), updated=time.time())
    worked = time.perf_counter()
    assert board.votes == len(found) and board.ladder.strengths, board
    vote = next(store.counting_votes())[0]
    store.add_vote(vote.turn_id, "bad", voter=vote.voter)
    voted = time.perf_counter()
    _, again = box.ballots()
    assert len(again) == len(found) and again[-1].verdict == "bad", again[-1]
    return {"read": read - began, "work": worked - read, "read_one_more": time.perf_counter() - voted}


if __name__ == "__main__":
    main()
