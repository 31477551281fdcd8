"""Pairs of the policy's own making: a reference reply preferred to the policy's sample.

A reward model that has only seen other people's mistakes does not know the ones this policy makes, and PPO finds
what it does not know. References are as short as a sample may be, or length alone would tell the two apart.
"""

import hashlib
import json
import random
from pathlib import Path

from sawyer.compute import pick_device
from sawyer.data import Conversation, Pair, is_held_out, load_conversations, load_pairs
from sawyer.errors import TrainingError
from sawyer.generation import generate
from sawyer.models import Policy
from sawyer.progress import progress
from sawyer.recipe import Recipe
from sawyer.runs import Run

BATCH = 32
# Where there is an SFT adapter, most samples are its own: PPO starts there. A few of the backbone's teach what a
# reply that merely continues the text is worth.
BASE_EVERY = 4
DEFAULT_TOKENS = 64


def own_samples(recipe: Recipe, run: Run, backbone: Path | str | None, sft: Path | None) -> list[Pair]:
    """Return ``reward.own_samples`` pairs, generated once and kept in the run's folder.

    Raises:
        TrainingError: no backbone was given, or no reference reply is short enough.
    """
    assert recipe.reward is not None
    wanted = recipe.reward.own_samples
    if not wanted:
        return []
    if backbone is None:
        raise TrainingError(
            f"reward.own_samples is {wanted}, which needs the model that makes the samples. Train the base or sft "
            "step first, or set reward.own_samples to 0."
        )
    file = run.folder / f"own_samples-{_digest(recipe, backbone, sft)}.jsonl"
    if not file.exists():
        rows = _generate(recipe, Policy.load(backbone, {"sft": sft} if sft else {}, spec=recipe.model), wanted)
        beside = file.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(vars(pair), ensure_ascii=False) + "\n" for pair in rows), "utf-8")
        beside.replace(file)
    return [Pair(**json.loads(line)) for line in file.read_text("utf-8").splitlines()]


def reference_conversations(recipe: Recipe) -> list[Conversation]:
    """Conversations whose replies serve as references: those of sft, else the preferred replies of the pairs."""
    if recipe.sft:
        found = load_conversations([s.model_copy(update={"weight": 1.0}) for s in recipe.sft.sources], recipe.seed)
    else:
        assert recipe.reward is not None
        pairs = load_pairs(recipe.reward.sources, recipe.seed)
        found = [Conversation([*p.prompt, {"role": "assistant", "content": p.chosen}], p.source) for p in pairs]
    random.Random(recipe.seed).shuffle(found)
    return found


def _generate(recipe: Recipe, policy: Policy, wanted: int) -> list[Pair]:
    limit = recipe.ppo.max_new_tokens if recipe.ppo else DEFAULT_TOKENS
    limit = min(limit, policy.context // 2)
    tasks = _tasks(recipe, policy, limit, wanted)
    # The temperature of PPO's rollouts: what the reward model will be asked about.
    temperature = recipe.ppo.temperature if recipe.ppo else 1.0
    pairs: list[Pair] = []
    stages = ("sft", "base") if "sft" in policy.stages else ("base",)
    done = 0
    with progress("own samples", len(tasks)) as tick:
        for stage in stages:
            mine = [t for i, t in enumerate(tasks) if len(stages) == 1 or (i % BASE_EVERY == 0) == (stage == "base")]
            # Like lengths together: little padding, and a batch ends soon.
            mine.sort(key=lambda task: sum(len(message["content"]) for message in task[0]))
            for start in range(0, len(mine), BATCH):
                batch = mine[start : start + BATCH]
                prompts = [policy.chat.encode_prompt(messages, stage) for messages, _ in batch]
                made = generate(
                    policy,
                    prompts,
                    stage=stage,
                    max_tokens=limit,
                    temperature=temperature,
                    seed=recipe.seed + start,
                    stop=policy.chat.stop_strings(stage),
                )
                for (messages, reference), sample in zip(batch, made, strict=True):
                    text = sample.text.strip()
                    # An empty reply has a fixed score in PPO and is never shown to the reward model.
                    if text and text != reference:
                        pairs.append(Pair(messages, reference, text, source=f"own-samples/{stage}"))
                done += len(batch)
                tick(done)
    return pairs


def _tasks(recipe: Recipe, policy: Policy, limit: int, wanted: int) -> list[tuple[list[dict[str, str]], str]]:
    """(prompt, reference) of ``wanted`` different prompts that leave room for a reply, those first that SFT was not
    trained on: to what it knows by heart it gives the reference, or nearly, and no mistake to learn from.
    """
    draw = random.Random(recipe.seed)
    tasks: dict[str, tuple[list[dict[str, str]], str]] = {}
    conversations = reference_conversations(recipe)
    if recipe.sft:
        share = recipe.sft.held_out
        conversations.sort(key=lambda conversation: not is_held_out(conversation.messages, share))
    for conversation in conversations:
        replies = [i for i, m in enumerate(conversation.messages) if m["role"] == "assistant" and i]
        if not replies:
            continue
        turn = draw.choice(replies)
        messages, reference = conversation.messages[:turn], conversation.messages[turn]["content"].strip()
        if len(policy.chat.encode_text(reference)) > limit or messages[-1]["role"] != "user":
            continue
        if max(len(policy.chat.encode_prompt(messages, stage)) for stage in ("sft", "base")) + limit > policy.context:
            continue
        tasks.setdefault(json.dumps(messages), (messages, reference))
        if len(tasks) == wanted:
            break
    if not tasks:
        raise TrainingError(
            f"reward.own_samples is {wanted}, but no conversation of sft.sources has a reply of at most {limit} tokens "
            f"to a prompt that leaves room for it in model.context ({policy.context}). Raise ppo.max_new_tokens or "
            "model.context, or set reward.own_samples to 0."
        )
    return list(tasks.values())


def _digest(recipe: Recipe, backbone: Path | str, sft: Path | None) -> str:
    """Names the file after what it depends on, so that a changed recipe never meets old samples."""
    parts = recipe.model_dump(mode="json", include={"seed", "model", "sft", "ppo"})
    assert recipe.reward is not None
    sources = [source.model_dump(mode="json") for source in recipe.reward.sources]
    text = json.dumps([parts, sources, recipe.reward.own_samples, str(backbone), str(sft), str(pick_device())])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
