"""DPO, IPO, KTO, ORPO and SPIN on a tiny random Llama: what they are shown, their losses by hand, faults, resuming."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, logsigmoid

from sawyer.data import load_pairs, load_rated
from sawyer.errors import DataError, RecipeError, TrainingError, UsageError
from sawyer.home import Home
from sawyer.logprobs import collate, response_logits, token_logprobs
from sawyer.models import Policy
from sawyer.recipe import PREFERENCE_METHODS, DataSource, Recipe, load_recipe, preference_plan
from sawyer.registry import Registry
from sawyer.runs import Run
from tests.train.makers import conversations, file_bytes, make_ending_backbone, make_sft, pairs, recipe, write_lines
from train.pipeline import Parts, run_step, train_one
from train.ppo.actor import STAGE
from train.preference import start_policy, train_preference
from train.preference_data import PairIds, PreferenceRows, encode_reply, load_rows
from train.preference_trainers import GivenReplies, make_trainer
from train.spin import train_spin
from train.trainer import Exact
from train.trl_trainers import REFERENCE, reference_of

ONE_RUN = ("dpo", "ipo", "kto", "orpo")
SMALL = {
    "epochs": 1, "batch_size": 8, "micro_batch": 4, "lr": 1e-2, "save_every": 2, "log_every": 1, "sample_every": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ending_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def sft(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sft(backbone, tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("data")
    chats = write_lines(folder / "chats.jsonl", conversations(24))
    return write_lines(folder / "pairs.jsonl", pairs(48)), chats


def told(backbone: Path, data: tuple[str, str], **sections: Any) -> Recipe:
    """A recipe with pairs, conversations and small sections of all methods."""
    given = {method: SMALL | sections.pop(method, {}) for method in ONE_RUN}
    spin = SMALL | {"iterations": 2, "max_new_tokens": 8} | sections.pop("spin", {})
    reward = {"sources": [{"name": data[0]}], "held_out": 0.25} | sections.pop("reward", {})
    chats = {"sources": [{"name": data[1]}], "max_length": 90, "held_out": 0.25}
    return recipe(backbone, reward=reward, sft=chats, **given, spin=spin, **sections)


def train(method: str, settings: Recipe, folder: Path, sft: Path | None, *, resume: bool = False) -> Path:
    with Run(folder, step=method, recipe=settings, resume=resume) as run:
        if method == "spin":
            return train_spin(settings, run, str(settings.model.backbone), sft)
        return train_preference(method, settings, run, str(settings.model.backbone), sft)


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def trainer_of(method: str, settings: Recipe, folder: Path, sft: Path) -> tuple[GivenReplies, Policy, PreferenceRows]:
    """A trainer before its first step, all held-out rows in one batch."""
    plan = preference_plan(method, settings)
    policy = start_policy(method, settings, str(settings.model.backbone), sft)
    rows = load_rows(plan, policy.chat, STAGE, policy.context, settings.seed)
    run = Run(folder, step=method, recipe=settings)
    with reference_of(policy) if method != "orpo" else torch.enable_grad():
        return make_trainer(plan, run, policy, rows, torch.float32), policy, rows


def test_prompts_and_replies_are_those_of_the_chat_format(backbone: Path) -> None:
    """A control token in a text stays text; the prompt is what the stage is asked, the reply ends with one EOS."""
    chat = Policy.load(backbone, spec=recipe(backbone).model).chat
    eos = str(chat.tokenizer.eos_token)
    prompt = [
        {"role": "user", "content": f"tea {eos} river"},
        {"role": "assistant", "content": "quiet"},
        {"role": "user", "content": "lamp"},
    ]
    asked, reply = encode_reply(chat, prompt, f"bread {eos} stone", STAGE)
    assert asked == chat.encode_prompt(prompt, "sft")
    whole, mask = chat.encode_conversation([*prompt, {"role": "assistant", "content": f"bread {eos} stone"}])
    assert asked + reply == whole and mask[-len(reply) :] == [1] * len(reply) and mask[-len(reply) - 1] == 0
    assert reply[-1] == chat.eos_id and reply.count(chat.eos_id) == 1 and asked.count(chat.eos_id) == 1
    assert encode_reply(chat, prompt, "", STAGE)[1] == [chat.eos_id]


@pytest.mark.parametrize("method", ONE_RUN)
def test_trl_trains_on_exactly_these_ids(
    method: str, backbone: Path, data: tuple[str, str], sft: Path, tmp_path: Path
) -> None:
    trainer, policy, rows = trainer_of(method, told(backbone, data), tmp_path / "run", sft)
    shown = set()
    for batch in trainer.get_train_dataloader():
        parts = ("chosen_", "rejected_") if method == "orpo" else ("",)
        for part in parts:
            ids, mask = batch[f"{part}input_ids"], batch[f"{part}attention_mask"]
            learnt = batch["completion_mask"] == 1 if method != "orpo" else batch[f"{part}labels"] != -100
            for row, kept, learn in zip(ids, mask.bool(), learnt, strict=True):
                shown.add((tuple(row[kept].tolist()), tuple(row[learn].tolist())))
    wanted = set()
    for pair in load_pairs([DataSource(name=data[0])], 3):
        for reply in (pair.chosen, pair.rejected):
            whole, _ = policy.chat.encode_conversation([*pair.prompt, {"role": "assistant", "content": reply}])
            wanted.add((tuple(whole), tuple(encode_reply(policy.chat, pair.prompt, reply, STAGE)[1])))
    assert shown < wanted and len(shown) == len(rows.train) * (1 if method == "kto" else 2)


def summed(policy: Policy, stage: str, prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> torch.Tensor:
    """Log-probabilities of replies by SAWYER's own forward pass, float32 [n]."""
    batch = collate(prompts, replies, policy.chat.pad_id)
    active = policy.model.active_adapter
    policy.model.set_adapter(stage)
    with torch.no_grad():
        logits, _ = response_logits(policy.model, batch)
    policy.model.set_adapter(active)
    return (token_logprobs(logits, batch.responses) * batch.response_mask).sum(-1)


def loss_by_hand(method: str, policy: Policy, rows: Sequence[Any], beta: float) -> float:
    """The papers' losses over ``rows`` as one batch."""
    prompts = [row.prompt for row in rows]
    if method == "kto":
        replies = [row.reply for row in rows]
        moved = [replies[-1], *replies[:-1]]
        ratio, mismatched = (
            summed(policy, STAGE, prompts, some) - summed(policy, REFERENCE, prompts, some) for some in (replies, moved)
        )
        sign = torch.tensor([1.0 if row.rated.liked else -1.0 for row in rows])
        return float((1 - torch.sigmoid(beta * sign * (ratio - mismatched.mean().clamp(min=0)))).mean())
    chosen, rejected = [row.chosen for row in rows], [row.rejected for row in rows]
    lengths = [torch.tensor([len(reply) for reply in some]) for some in (chosen, rejected)]
    ours = [summed(policy, STAGE, prompts, some) for some in (chosen, rejected)]
    if method == "orpo":
        means = [some / length for some, length in zip(ours, lengths, strict=True)]
        odds = [some - torch.log1p(-some.exp()) for some in means]
        policy.model.set_adapter(STAGE)
        whole = [row.prompt + row.chosen for row in rows]
        with torch.no_grad():
            nll = sum(
                cross_entropy(policy.model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]), reduction="sum")
                for ids in whole
            ) / sum(len(ids) - 1 for ids in whole)
        return float(nll - beta * logsigmoid(odds[0] - odds[1]).mean())
    theirs = [summed(policy, REFERENCE, prompts, some) for some in (chosen, rejected)]
    ratios = [a - b for a, b in zip(ours, theirs, strict=True)]
    if method == "ipo":
        ratios = [ratio / length for ratio, length in zip(ratios, lengths, strict=True)]
        return float(((ratios[0] - ratios[1] - 1 / (2 * beta)) ** 2).mean())
    return float(-logsigmoid(beta * (ratios[0] - ratios[1])).mean())


@pytest.mark.parametrize("method", ONE_RUN)
def test_the_logged_loss_is_the_papers(
    method: str, backbone: Path, data: tuple[str, str], sft: Path, tmp_path: Path
) -> None:
    settings = told(backbone, data, **{method: {"batch_size": 64, "micro_batch": 64}})
    trainer, policy, rows = trainer_of(method, settings, tmp_path / "run", sft)
    weights = load_file(sft / "adapter_model.safetensors")
    if method != "orpo":  # the reference is the SFT adapter, and starts equal to the policy
        assert not [name for name in policy.model.peft_config if name not in (STAGE, REFERENCE)]
        for name, value in weights.items():
            place = name.replace(".weight", f".{REFERENCE}.weight")
            assert torch.equal(policy.model.get_parameter(place), value)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in policy.parameters_of(STAGE):
            parameter.add_(0.1 * torch.randn_like(parameter))
    with policy.using(STAGE, train=True):
        policy.model.eval()
        figures = trainer.held_out()
    held_out = rows.held_out
    if method == "kto":  # in the order in which the neighbours' replies were dealt
        dealt = [ids for ids in trainer.eval_dataset["completion_ids"]]
        held_out = [next(r for r in rows.held_out if r.reply == ids and r.prompt == asked)
                    for ids, asked in zip(dealt, trainer.eval_dataset["prompt_ids"], strict=True)]  # fmt: skip
    assert len(held_out) > 4
    by_hand = loss_by_hand(method, policy, held_out, 0.1)
    assert figures["heldout/loss"] == pytest.approx(by_hand, rel=1e-4)
    if method == "dpo":
        assert abs(by_hand - 0.693) > 0.01 and 0 < figures["heldout/implicit/accuracy"] < 1


@pytest.fixture(scope="module")
def whole(
    backbone: Path, data: tuple[str, str], sft: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Recipe]]:
    """A run of each method that was never interrupted."""
    made = {}
    for method in PREFERENCE_METHODS:
        settings = told(backbone, data)
        folder = tmp_path_factory.mktemp(method) / "run"
        train(method, settings, folder, sft)
        made[method] = (folder, settings)
    return made


@pytest.mark.parametrize("method", PREFERENCE_METHODS)
def test_it_learns_and_leaves_what_every_step_leaves(method: str, whole: dict[str, tuple[Path, Recipe]]) -> None:
    folder, _ = whole[method]
    rows, manifest = rows_of(folder), json.loads((folder / "manifest.json").read_text())
    name = "heldout/loss"
    losses = [row[name] for row in rows if name in row]
    assert len(losses) == 2 and manifest["figures"][name] == losses[-1] and manifest["method"] == method
    if method == "spin":  # the second opponent is another one: losses of iterations are not to be compared
        first = rows_of(folder / "iteration-1")
        assert first[-1][name] < first[0][name] == pytest.approx(0.6931, abs=1e-3)
        assert [row["step"] for row in rows] == [1, 2] and 0 < rows[0]["opponent/eos_rate"] <= 1
        folder = folder / "iteration-2"
    else:
        assert losses[1] < losses[0] and rows[-1]["heldout/implicit/margin"] > 0
        assert {"loss", "lr", "grad_norm", "implicit/chosen"} <= set(rows[1])
    assert list((folder / "tensorboard").iterdir()) and list((folder / "checkpoints").iterdir())
    sample = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    assert {"prompt", "reply", "reference"} <= set(sample)
    assert not (folder / "README.md").exists() and manifest["rows"]["train"] > 0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("method", ["dpo", pytest.param("ipo", marks=pytest.mark.slow), "kto", "orpo", "spin"])
def test_an_interrupted_run_ends_with_the_same_bytes(
    method: str,
    whole: dict[str, tuple[Path, Recipe]],
    sft: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped after its first checkpoint; SPIN in its second iteration."""
    folder, settings = whole[method]
    original = Exact.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == 2 and self.run.step != "spin.1":
            raise Killed
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Exact, "training_step", dies)
        train(method, settings, tmp_path / "cut", sft)
    adapter = train(method, settings, tmp_path / "cut", sft, resume=True)
    assert file_bytes(adapter) == file_bytes(folder / "adapter")


def test_an_opponent_is_the_iterate_before_and_replies_are_kept(whole: dict[str, tuple[Path, Recipe]]) -> None:
    folder, _ = whole["spin"]
    replies = [
        {line["text"] for line in map(json.loads, (folder / f"iteration-{n}" / "opponents.jsonl").open())}
        for n in (1, 2)
    ]
    assert replies[0] and replies[1] and replies[0] != replies[1]
    assert file_bytes(folder / "adapter") == file_bytes(folder / "iteration-2" / "adapter")
    assert file_bytes(folder / "iteration-1" / "adapter") != file_bytes(folder / "adapter")


def test_orpo_may_start_from_base(backbone: Path, data: tuple[str, str], sft: Path, tmp_path: Path) -> None:
    settings = told(backbone, data, orpo={"start": "base", "limit": 8})
    adapter = train("orpo", settings, tmp_path / "run", sft)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["start"] == "base" and manifest["rows"]["train"] == 8
    weights = load_file(adapter / "adapter_model.safetensors")  # one step from zero is a small one
    assert max(float(w.abs().max()) for name, w in weights.items() if "lora_B" in name) < 0.05


# Data


def rated_lines(labels: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"prompt": f"river {n} tea", "completion": f"bread {n}", "label": label} for n, label in enumerate(labels)]


def test_rated_replies_are_read_in_trls_forms(tmp_path: Path) -> None:
    lines = [
        {"prompt": "tea", "completion": " bread ", "label": True},
        {
            "prompt": [{"role": "user", "content": "lamp"}],
            "completion": [{"role": "assistant", "content": "stone"}],
            "label": 0,
        },
        {"prompt": "north", "chosen": "wind", "rejected": "paper"},
        {"prompt": "same", "chosen": "wind", "rejected": "wind"},
        {"prompt": "empty", "completion": "", "label": True},
    ]
    name = write_lines(tmp_path / "rated.jsonl", lines)
    found = {(r.prompt[-1]["content"], r.reply, r.liked) for r in load_rated([DataSource(name=name)])}
    wanted = {("tea", "bread", True), ("lamp", "stone", False), ("north", "wind", True), ("north", "paper", False)}
    assert found == wanted


def test_kto_takes_the_pairs_of_dpo_and_splits_are_the_rewards(backbone: Path, data: tuple[str, str]) -> None:
    settings = told(backbone, data, dpo={"limit": 10}, kto={"limit": 10})
    chat = Policy.load(backbone, spec=settings.model).chat
    given = load_rows(preference_plan("dpo", settings), chat, STAGE, 96, 3)
    rated = load_rows(preference_plan("kto", settings), chat, STAGE, 96, 3)
    assert len(given.train) == 10 and all(isinstance(row, PairIds) for row in given.train)
    for part in ("train", "held_out"):
        pairs_ids = {(*row.prompt, 0, *reply) for row in getattr(given, part) for reply in (row.chosen, row.rejected)}
        assert pairs_ids == {(*row.prompt, 0, *row.reply) for row in getattr(rated, part)}
    assert sum(row.rated.liked for row in rated.train) == 10
    apart = [{tuple(row.prompt) for row in part} for part in (given.train, given.held_out)]
    assert apart[0] and apart[1] and not apart[0] & apart[1]


# Bad input


def test_what_cannot_be_trained_on_is_named(backbone: Path, data: tuple[str, str], sft: Path, tmp_path: Path) -> None:
    one_kind = write_lines(tmp_path / "liked.jsonl", rated_lines([True] * 12))
    bare = write_lines(tmp_path / "bare.jsonl", [{"text": "no pair"}])
    for method, sections, kind, message in [
        ("kto", {"kto": {"sources": [{"name": one_kind}]}}, TrainingError, r"all \d+ of kto.sources are liked"),
        ("dpo", {"dpo": {"sources": [{"name": one_kind}]}}, DataError, "none of them usable"),
        ("dpo", {"reward": {"sources": [{"name": bare}]}}, DataError, "none of them usable"),
        ("ipo", {"reward": {"held_out": 1.0}}, TrainingError, "Nothing of reward.sources is left to train ipo on: "),
        ("orpo", {"orpo": {"max_length": 4}}, TrainingError, "longer than 4 tokens. .*raise orpo.max_length"),
        ("spin", {"spin": {"max_new_tokens": 90}}, TrainingError, "leave no room for a reply of spin.max_new_tokens"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=message):
            train(method, told(backbone, data, **sections), tmp_path / "run", sft)


def test_a_recipe_without_data_and_wrong_sizes_are_refused(backbone: Path, data: tuple[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"no data for dpo: add reward.sources.*or dpo.sources"):
        preference_plan("dpo", recipe(backbone))
    with pytest.raises(RecipeError, match=r"no data for spin: add sft.sources"):
        preference_plan("spin", recipe(backbone))
    for key, message in [
        ("dpo.betta=1", "did you mean beta"),
        ("dpo.max_length=4000", "dpo.max_length 4000 exceeds model.context"),
        ("ipo.batch_size=12", "ipo.batch_size 12 must be a multiple of ipo.micro_batch"),
        ("kto.micro_batch=1", "kto.micro_batch: input should be greater than or equal to 2"),
    ]:
        with pytest.raises(RecipeError, match=message):
            load_recipe("tiny", [key])
    tiny = load_recipe("tiny", ["ipo.lr=0.5"])  # the sections of the recipe share an anchor
    assert tiny.ipo is not None and tiny.dpo is not None and (tiny.ipo.lr, tiny.dpo.lr) == (0.5, 1e-3)


def test_stages_that_are_missing_are_named(tmp_path: Path) -> None:
    tiny, home = load_recipe("tiny"), Home(tmp_path / "home").ensure()
    for method in PREFERENCE_METHODS:
        with pytest.raises(UsageError, match=rf"{method.upper()} starts from the SFT adapter: run `sawyer train sft"):
            run_step(method, tiny, home, Parts(backbone="x"))
    with pytest.raises(UsageError, match="sawyer train base tiny"):
        run_step("dpo", tiny, home, Parts())


def test_train_registers_promotes_and_takes_replaced_sources(
    backbone: Path, data: tuple[str, str], sft: Path, tmp_path: Path
) -> None:
    """As feedback rounds call it: the step by name, with other pairs in reward.sources."""
    settings = told(backbone, data)
    home = Home(tmp_path / "home").ensure()
    registry = Registry.of(settings, home)
    registry.promote(registry.register("sft", sft, info={}).ref)
    assert train_one("dpo", settings, home) == "rlf@1"
    current = registry.current("rlf")
    assert current is not None
    assert (current.info["method"], current.info["sft"], current.info["run"]) == ("dpo", "sft@1", "runs/test/dpo")
    assert train_one("dpo", settings, home, resume=True) == "rlf@1"

    assert settings.reward is not None
    votes = write_lines(tmp_path / "votes.jsonl", pairs(9, seed=4))
    reward = settings.reward.model_copy(update={"sources": [DataSource(name=votes)], "held_out": 0.0})
    parts = Parts(backbone=str(backbone), sft=sft)
    output = run_step("dpo", settings.model_copy(update={"reward": reward}), home, parts, folder=home.root / "round")
    assert output == home.root / "round" / "adapter"
    assert json.loads((home.root / "round" / "manifest.json").read_text())["rows"]["train"] == 9
    with pytest.raises(UsageError, match="other settings: reward changed since"):
        run_step("dpo", settings, home, parts, resume=True, folder=home.root / "round")


@pytest.mark.slow
@pytest.mark.parametrize("method", ONE_RUN)
def test_the_7b_recipe_learns_from_pairs_in_nf4(method: str, wide_backbone: Path, tmp_path: Path) -> None:
    """llama2-7b.yaml as it is, with gradient checkpointing, on a small checkpoint; adapters stay float32."""
    small = "{limit: 8, batch_size: 4, micro_batch: 2, max_length: 200, optimizer: adamw_torch, lr: 1.0e-3, "
    settings = load_recipe(
        "llama2-7b",
        [
            f"model.backbone={wide_backbone}",
            "model.context=256",
            "sft=null",
            "spin=null",
            "ppo=null",
            "reward.sources=[{name: starter/pairs, limit: 60}]",
            "reward.held_out=0.2",
            "lora.r=8",
            *(f"{name}={small}gradient_checkpointing: true}}" for name in ONE_RUN),
        ],
    )
    adapter = train(method, settings, tmp_path / "run", None)
    weights = load_file(adapter / "adapter_model.safetensors")
    assert all(w.dtype == torch.float32 for w in weights.values())
    assert all(float(w.abs().max()) > 0 for name, w in weights.items() if "lora_B" in name)
