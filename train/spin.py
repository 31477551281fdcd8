"""SPIN (Chen et al. 2024): the policy learns to tell the data's replies from those of its previous iterate.

Iteration t of T:
    1. the iterate t-1 (the SFT adapter at first) answers the training prompts: these are the opponents' replies;
    2. DPO on (data's reply, opponent's reply) with the iterate t-1 as start and as reference gives the iterate t.

Each iteration is a run in a folder of its own: a killed run goes on in the iteration, and at the opponent's reply or
the checkpoint, where it was. A prompt is a conversation up to its last reply. An opponent that answers exactly as the
data gives no pair: there is nothing to learn from it.
"""

import gc
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sawyer.compute import set_threads
from sawyer.data import Conversation, Pair, is_held_out, load_conversations
from sawyer.errors import TrainingError
from sawyer.evaluation.replies import Question, ReplyCache, ask
from sawyer.models import Policy
from sawyer.progress import progress
from sawyer.recipe import PreferencePlan, Recipe, SpinSpec, preference_plan
from sawyer.runs import Run, check_sealed
from train.ppo.actor import STAGE
from train.ppo.prompts import spread
from train.preference import finish, learn, start_policy
from train.preference_data import HELD_OUT, encode_reply, pair_rows


def train_spin(recipe: Recipe, run: Run, backbone: Path | str, sft: Path | None) -> Path:
    """Tune ``rlf`` by ``recipe.spin`` and return its adapter's folder.

    Raises:
        As :func:`train.preference.train_preference`; also TrainingError where opponents answer as the data do.
    """
    plan = preference_plan("spin", recipe)
    assert isinstance(plan.spec, SpinSpec)
    set_threads(recipe.threads)
    run.truncate_log(0)  # the iterations keep their figures: what is logged here is read from them
    iterate = sft
    for number in range(1, plan.spec.iterations + 1):
        with Run(run.folder / f"iteration-{number}", step=f"spin.{number}", recipe=recipe, resume=run.resume) as part:
            done = part.finished if run.resume else None
            if done is None:
                _iterate(plan, recipe, part, backbone, iterate, number)
                done = check_sealed(part.folder)
        run.log(number, **done["opponents"], **{k: v for k, v in done["figures"].items() if k.startswith("heldout/")})
        iterate = part.folder / "adapter"
    assert iterate is not None
    with run.output("adapter") as folder:
        shutil.copytree(iterate, folder, dirs_exist_ok=True)
    steps, figures = plan.spec.iterations, done["figures"]
    run.finish(run.folder / "adapter", steps=steps, figures=figures, method="spin", rows=done["rows"])
    return run.folder / "adapter"


def _iterate(
    plan: PreferencePlan, recipe: Recipe, part: Run, backbone: Path | str, before: Path | None, number: int
) -> None:
    """Play one iteration from the adapter in ``before``; its folder is finished when this returns."""
    assert isinstance(plan.spec, SpinSpec)
    policy = start_policy("spin", recipe, backbone, before)
    train, held_out = _prompts(plan, policy, recipe)
    title = f"spin {number} of {plan.spec.iterations}"
    pairs, figures = opponents(policy, plan.spec, [*train, *held_out], part, number, title)
    known = {id(conversation) for conversation in train}
    parts = [[pair for key, pair in pairs if (key in known) is wanted] for wanted in (True, False)]
    if not parts[0]:
        raise TrainingError(
            f"In iteration {number} SPIN's opponent answers every prompt exactly as the data do: there is nothing left "
            f"to learn. Lower spin.iterations to {number - 1}, raise spin.temperature, or add sources."
        )
    # The limit has been applied to the conversations.
    rows = pair_rows(_unlimited(plan), parts[0], parts[1], policy.chat, STAGE, policy.context)
    learn(plan, part, policy, rows, title=title)
    finish(part, policy, method="spin", iteration=number, rows=rows.counts(), opponents=figures)
    del policy
    gc.collect()  # trainers and models refer to each other: the next iteration loads the backbone again


def opponents(
    policy: Policy, spec: SpinSpec, conversations: Sequence[Conversation], part: Run, number: int, title: str
) -> tuple[list[tuple[int, Pair]], dict[str, float]]:
    """The pairs of data's and opponent's replies with the identity of their conversation, and figures of the replies.

    The replies are kept in ``opponents.jsonl`` as they are made, by the hash of adapter, prompt and seed.
    """
    prompts = [policy.chat.encode_prompt(conversation.messages[:-1], STAGE) for conversation in conversations]
    question = Question(spec.max_new_tokens, spec.temperature, 1.0, part.recipe.seed * 1000 + number)
    cache = ReplyCache(part.folder / "opponents.jsonl")
    with progress(f"{title}: opponents", len(prompts)) as tick, policy.merged(STAGE):
        replies = ask(policy, STAGE, prompts, question, cache, batch_size=spec.decode_batch, tick=tick)
    pairs = [
        (id(conversation), Pair(conversation.messages[:-1], conversation.messages[-1]["content"], reply.text))
        for conversation, reply in zip(conversations, replies, strict=True)
        if reply.text != conversation.messages[-1]["content"].strip()
    ]
    figures = {
        "opponent/length": sum(len(reply.ids) for reply in replies) / len(replies),
        "opponent/eos_rate": sum(reply.finished for reply in replies) / len(replies),
        "opponent/alike": 1 - len(pairs) / len(replies),
    }
    return pairs, figures


def _prompts(plan: PreferencePlan, policy: Policy, recipe: Recipe) -> tuple[list[Conversation], list[Conversation]]:
    """The conversations to learn from and those held out, each once, with room for data's and opponent's reply."""
    assert isinstance(plan.spec, SpinSpec)
    longest = min(plan.spec.max_length or policy.context, policy.context)
    unique = {str(c.messages): c for c in load_conversations(plan.sources, recipe.seed) if len(c.messages) > 1}

    def fits(conversation: Conversation) -> bool:
        prompt, reply = encode_reply(
            policy.chat, conversation.messages[:-1], conversation.messages[-1]["content"], STAGE
        )
        return len(prompt) + max(len(reply), plan.spec.max_new_tokens + 1) <= longest

    fitting = [conversation for conversation in unique.values() if fits(conversation)]
    train = [c for c in fitting if not is_held_out(c.messages, plan.held_out)]
    if not train:
        raise TrainingError(
            f"None of the {len(unique)} conversations of {'spin' if plan.spec.sources else 'sft'}.sources is left to "
            f"train spin on: {len(unique) - len(fitting)} leave no room for a reply of spin.max_new_tokens "
            f"({plan.spec.max_new_tokens}) within {longest} tokens, {len(fitting)} are held out (a share of "
            f"{plan.held_out:g}). Raise spin.max_length, lower spin.max_new_tokens, or add sources."
        )
    held_out = [c for c in fitting if is_held_out(c.messages, plan.held_out)]
    return spread(train, plan.spec.limit or len(train)), spread(held_out, HELD_OUT)


def _unlimited(plan: PreferencePlan) -> PreferencePlan:
    return replace(plan, spec=plan.spec.model_copy(update={"limit": None}))
