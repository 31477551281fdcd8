"""The first step: what the round will learn from and be measured by, as files that never change again."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sawyer.data import Pair, Prompt, find_local, is_held_out, load_pairs, load_prompts
from sawyer.errors import DataError, UsageError
from sawyer.evaluation.prompts import held_out_prompts
from sawyer.recipe import DataSource
from sawyer.stage_version import STAGES
from sawyer.store import FeedbackStore, ledger
from sawyer.store.files import write_rows
from train.round.votes import VotedPair, check_enough, voted_pairs, votes_in
from train.round.work import EARLIER, HELD_OUT, PAIRS, PROMPTS, RoundWork

Item = TypeVar("Item")


def take_snapshot(work: RoundWork) -> dict[str, Any]:
    """Write the store's pairs, the recipe's earlier ones, prompts to train on and prompts to compare on.

    Raises:
        GateRefused: too few votes, voters or questions. StoreError: the store cannot be read.
    """
    with FeedbackStore.open(work.home.db_url) as store:
        return _snapshot(work, store)


def _snapshot(work: RoundWork, store: FeedbackStore) -> dict[str, Any]:
    spec, seed = work.recipe.round, work.recipe.seed
    cast, pairs = store.count_votes(), voted_pairs(store)
    votes, voters = len(votes_in(pairs)), len({pair.voter for pair in pairs})
    work.diary.update(votes=votes, voters=voters, cast=cast)
    check_enough(pairs, cast, spec)
    folder = work.folder("snapshot")
    shutil.rmtree(folder)  # a torn one of a killed process: nothing has been built on it yet
    folder.mkdir()
    draw, left_out = random.Random(f"{seed}:round"), list[str]()
    assert work.recipe.reward is not None and work.recipe.ppo is not None
    earlier = _some(_load(work.recipe.reward.sources, load_pairs, seed, left_out), spec.earlier * len(pairs), draw)
    asked = list({json.dumps(pair.prompt): pair.prompt for pair in pairs}.values())
    room = max(spec.earlier * len(asked), work.recipe.ppo.batch_size)
    own = _some(_load(work.recipe.ppo.prompts, load_prompts, seed, left_out), room, draw)
    compared = _compared(work, asked, draw, left_out)
    _note(store, folder, pairs)
    write_rows((_voted(pair) for pair in pairs), folder / PAIRS, ".jsonl")
    if earlier:
        write_rows((_earlier(pair) for pair in earlier), folder / EARLIER, ".jsonl")
    write_rows(iter([*({"prompt": prompt} for prompt in asked), *map(_prompt, own)]), folder / PROMPTS, ".jsonl")
    write_rows(iter(compared), folder / HELD_OUT, ".jsonl")
    missing = f"; not at hand and left out: {', '.join(sorted(set(left_out)))}" if left_out else ""
    work.diary.detail(
        "snapshot",
        f"{votes} votes of {voters} people give {len(pairs)} pairs; {len(earlier)} earlier pairs, "
        f"{len(asked) + len(own)} prompts, {len(compared)} prompts to compare on{missing}",
    )
    refs = {stage: current.ref if (current := work.registry.current(stage)) else None for stage in STAGES}
    counts = {"cast": cast, "votes": votes, "voters": voters, "pairs": len(pairs), "earlier": len(earlier)}
    return {"refs": refs, **counts, "compared": len(compared), "left_out": sorted(set(left_out))}


def _note(store: FeedbackStore, folder: Path, pairs: Sequence[VotedPair]) -> None:
    """Tell the store which rows will hold people's words: forgetting and redaction follow them."""
    ledger.note(store, folder / PAIRS, "preference", [(_voted(pair), pair.origin) for pair in pairs])
    for name in (PROMPTS, HELD_OUT):
        ledger.note(store, folder / name, "prompts", [({"prompt": pair.prompt}, pair.origin) for pair in pairs])


def _compared(work: RoundWork, asked: Sequence[Any], draw: random.Random, left_out: list[str]) -> list[dict[str, Any]]:
    """Held-out prompts on which candidate and current will be compared: people's first, then the recipe's own."""
    spec, recipe = work.recipe.round, work.recipe
    theirs = _some([prompt for prompt in asked if is_held_out(prompt, spec.held_out)], spec.prompts, draw)
    named = [s for s in recipe.evaluate.prompts or (recipe.ppo.prompts if recipe.ppo else []) if _at_hand(s)]
    own: list[Prompt] = []
    if named:
        try:
            own = held_out_prompts(
                recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"prompts": named})})
            )
        except (DataError, UsageError) as error:
            work.diary.say(f"the recipe's own prompts are not compared on: {error}")
    known = {json.dumps(prompt) for prompt in theirs}
    fresh = [prompt for prompt in own if json.dumps(prompt.messages) not in known]
    return [*({"prompt": p} for p in theirs), *map(_prompt, _some(fresh, spec.prompts - len(theirs), draw))]


def sources_at_hand(sources: Sequence[DataSource]) -> list[DataSource]:
    """The sources that lie in the package, in SAWYER_DATA or at their path, and those of the hub."""
    return [source for source in sources if _at_hand(source)]


def _at_hand(source: DataSource) -> bool:
    """Whether it can be read: a name without a slash is a folder of SAWYER_DATA and never looked for on the hub."""
    return find_local(source) is not None or ("/" in source.name and not source.name.startswith(("starter/", "/", ".")))


def _load(
    sources: Sequence[DataSource],
    load: Callable[[Sequence[DataSource], int], list[Item]],
    seed: int,
    left_out: list[str],
) -> list[Item]:
    """What can be read of the sources; the names of the others are added to ``left_out``."""
    found: list[Item] = []
    for source in sources:
        try:
            if not _at_hand(source):
                raise DataError("not at hand")
            found += load([source.model_copy(update={"weight": 1.0})], seed)
        except DataError:
            left_out.append(source.name)
    return found


def _some(items: list[Item], most: float, draw: random.Random) -> list[Item]:
    """At most so many of the items, drawn at random, in their order."""
    count = max(0, int(most))
    if len(items) <= count:
        return items
    return [items[index] for index in sorted(draw.sample(range(len(items)), count))]


def _voted(pair: VotedPair) -> dict[str, Any]:
    return {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "source": "votes"}


def _earlier(pair: Pair) -> dict[str, Any]:
    row = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "source": pair.source}
    return row if pair.margin is None else {**row, "margin": pair.margin}


def _prompt(prompt: Prompt) -> dict[str, Any]:
    return {"prompt": prompt.messages} | ({} if prompt.reference is None else {"reference": prompt.reference})
