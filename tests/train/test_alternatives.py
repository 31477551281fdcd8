"""GRPO and RLOO end to end on a tiny random Llama: they learn what PPO learns, from its start and on its reward."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sawyer.errors import RecipeError, TrainingError, UsageError
from sawyer.home import Home
from sawyer.recipe import LoraSpec, ModelSpec, Plan, PpoSpec, Recipe, load_recipe, plan_of
from sawyer.recipe.alternatives import GrpoSpec, RlooSpec
from sawyer.registry import Registry
from sawyer.runs import Run
from sawyer.scoring import Part, Reward
from tests.train.makers import file_bytes, make_backbone, make_sft, recipe, sentence, write_lines
from train import pipeline, trl_trainers
from train.alternatives import configuration, train_alternative
from train.doctor import diagnose, find_run, method_of
from train.pipeline import Parts, run_step, steps_of, train_one
from train.ppo import train_ppo
from train.ppo.actor import STAGE, Actor
from train.ppo.curves import PANELS, draw_curves, shown
from train.ppo.probe import Prober
from train.ppo.prompts import load_tasks
from train.ppo.watch import own_keys, signs
from train.trl_trainers import GrpoRun, RlooRun

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("grpo", "rloo")
KEY = re.compile(r"\b(ppo\.kl|ppo|grpo|rloo|lora|model)\.\w+")


class Letters:
    """Scores a reply by its number of letters e; after ``breaks_after`` calls it is interrupted."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.breaks_after, self.calls = breaks_after, 0

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> np.ndarray:
        self.calls += 1
        if self.breaks_after is not None and self.calls > self.breaks_after:
            raise KeyboardInterrupt
        return np.array([response.count("e") for response in responses], dtype=np.float32)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    lines = [{"prompt": sentence(random.Random(n), 2 + n % 3)} for n in range(40)]
    return write_lines(tmp_path_factory.mktemp("data") / "prompts.jsonl", lines)


@pytest.fixture(scope="module")
def sft(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose effect is clear, so that the bare backbone in its place as the reference would be seen."""
    return make_sft(backbone, tmp_path_factory.mktemp("sft"))


def told(backbone: Path, prompts: str, **sections: Any) -> Recipe:
    """A recipe with a small ppo section, and sections of the alternatives as given."""
    ppo = {
        "prompts": [{"name": prompts}],
        "reward": "unused",
        "steps": 4,
        "batch_size": 8,
        "minibatch_size": 4,
        "micro_batch": 2,
        "epochs": 2,
        "max_prompt": 48,
        "max_new_tokens": 8,
        "lr": 5e-3,
        "kl": {"beta": 0.02},
        "normalize_samples": 16,
        "save_every": 2,
        "sample_every": 2,
        "held_out": 0.3,
        "missing_eos_penalty": 0.0,
    }
    return recipe(backbone, ppo=ppo | sections.pop("ppo", {}), **{"grpo": {"group_size": 4}, **sections})


def train(
    method: str, recipe: Recipe, folder: Path, sft: Path | None, scorer: Letters | None = None, *, resume: bool = False
) -> Path:
    reward = Reward([Part("letters", scorer or Letters())])
    with Run(folder, step=method, recipe=recipe, resume=resume) as run:
        return train_alternative(method, recipe, run, str(recipe.model.backbone), sft, reward)


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")} for row in rows]


@pytest.fixture(scope="module")
def whole(
    backbone: Path, prompts: str, sft: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Recipe]]:
    """A run of each method that was never interrupted, from an SFT adapter."""
    made = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp(method) / "run"
        settings = told(backbone, prompts)
        train(method, settings, folder, sft)
        made[method] = (folder, settings)
    return made


@pytest.mark.parametrize("method", METHODS)
def test_the_reward_rises(method: str, backbone: Path, prompts: str, tmp_path: Path) -> None:
    """A bandit of a kind: each letter e is worth the same wherever it stands, so the policy must learn to write it."""
    bandit = {"steps": 24, "batch_size": 32, "minibatch_size": 16, "micro_batch": 16, "epochs": 3, "lr": 2e-2}
    own = {"group_size": 8, "beta": 0.01, "sample_every": 8}
    settings = told(backbone, prompts, ppo={**bandit, "watch": False, "save_every": 50}, **{method: own})
    adapter = train(method, settings, tmp_path / "run", None)
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(25))
    assert rows[-1]["objective/score"] > rows[1]["objective/score"] + 1.5
    assert rows[-1]["reward/letters"] > 1.5 * rows[1]["reward/letters"]
    assert rows[-1]["heldout/score"] > rows[0]["heldout/score"] + 1.0
    assert rows[-1]["objective/kl"] > 0.1
    assert {row["step"] for row in rows if "heldout/score" in row} == {0, 8, 16, 24}
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert {row["step"] for row in samples} == {0, 8, 16, 24} and {"prompt", "reply", "score"} <= set(samples[0])
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), adapter)  # plain PEFT loads it


@pytest.mark.parametrize("method", METHODS)
def test_figures_have_the_names_that_ppo_gives_them(method: str, whole: dict[str, tuple[Path, Recipe]]) -> None:
    folder, _ = whole[method]
    first, last = rows_of(folder)[1], rows_of(folder)[-1]
    shared = {
        "objective/kl", "objective/kl_k3", "objective/entropy", "objective/score", "objective/score_deviation",
        "objective/return", "reward/letters", "rollout/length", "rollout/eos_rate", "rollout/empty_rate",
        "rollout/distinct_2", "rollout/length_correlation", "rollout/drift", "loss/policy", "policy/grad_norm",
        "policy/clip_fraction", "schedule/beta", "schedule/lr", "speed/episodes_per_second", "speed/rollout_share",
    }  # fmt: skip
    assert shared <= set(first) and {"heldout/score", "heldout/length"} <= set(last)
    assert first["schedule/lr"] == 5e-3 and last["schedule/lr"] == pytest.approx(5e-3 / 4)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["method"], manifest["steps"]) == (method, 4) and manifest["reward"]["letters"]["deviation"] > 0
    assert not (folder / "README.md").exists()


def trainer_of(method: str, settings: Recipe, folder: Path, sft: Path | None) -> GrpoRun | RlooRun:
    """The trainer as it is before its first step, its reward frozen."""
    plan: Plan = plan_of(method, settings)
    actor = Actor.load(settings, str(settings.model.backbone), sft)
    tasks = load_tasks(plan.ppo, actor.policy.chat, STAGE, settings.seed)
    prober = Prober(actor, Reward([Part("letters", Letters())]), None, tasks, plan.ppo, settings.seed)
    prober.freeze()
    run = Run(folder, step=method, recipe=settings)
    kind = GrpoRun if method == "grpo" else RlooRun
    return kind(run, plan, prober, configuration(plan, run, actor.policy.device))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_sft", [True, False])
def test_the_reference_is_the_sft_adapter(
    method: str, with_sft: bool, backbone: Path, prompts: str, sft: Path, tmp_path: Path
) -> None:
    """TRL's own KL is 0 before the first update, and its log-probabilities are SAWYER's, padding or not."""
    settings = told(backbone, prompts)
    trainer = trainer_of(method, settings, tmp_path / "run", sft if with_sft else None)
    model, policy, actor = trainer.policy.model, trainer.policy, trainer.prober.actor
    assert "default" not in model.peft_config
    weights = dict(model.named_parameters())
    ours = [name for name in weights if f".{STAGE}." in name]
    assert ours
    for name in ours:
        assert torch.equal(weights[name], weights[name.replace(f".{STAGE}.", ".ref.")])
        if with_sft:
            assert torch.equal(weights[name], weights[name.replace(f".{STAGE}.", ".sft.")])
    with policy.using(STAGE, train=True):
        number = {len(task.ids): index for index, task in enumerate(trainer.prober.tasks.train)}
        rows = [{"prompt": "", "task": number[length]} for length in (min(number), max(number)) for _ in range(4)]
        model.train()
        batch = trainer._generate_and_score_completions(rows)
        assert {name for name, p in model.named_parameters() if p.requires_grad} == set(ours)
        ids, keep = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1), batch["completion_ids"].shape[1]
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        with torch.no_grad():
            theirs = trainer._get_per_token_logps_and_entropies(model, ids, mask, keep)[0]
    rollout = trainer._rollout
    assert min(number) < max(number)  # some prompts are padded
    for row, place in enumerate(trainer._places):
        count = int(rollout.lengths[place])
        assert batch["completion_ids"][row, :count].tolist() == rollout.episodes[place].reply.ids
        assert rollout.episodes[place].task is trainer._dealt[row]
        torch.testing.assert_close(theirs[row, :count], rollout.old[place, :count], rtol=0, atol=1e-4)
        torch.testing.assert_close(rollout.reference[place, :count], rollout.old[place, :count], rtol=0, atol=1e-5)
    if method == "grpo":
        difference = (batch["ref_per_token_logps"] - theirs) * batch["completion_mask"]
        assert float(difference.abs().max()) < 1e-5
    else:
        assert trainer._metrics["train"]["kl"] == pytest.approx([0.0], abs=1e-5)
    assert actor.reference == ("sft" if with_sft else "base")


def test_start_and_statistics_are_those_of_ppo(
    backbone: Path, prompts: str, sft: Path, tmp_path: Path, whole: dict[str, tuple[Path, Recipe]]
) -> None:
    settings = told(backbone, prompts, ppo={"steps": 1})
    with Run(tmp_path / "ppo", step="ppo", recipe=settings) as run:
        train_ppo(settings, run, str(backbone), sft, Reward([Part("letters", Letters())]))
    ppo = json.loads((tmp_path / "ppo" / "manifest.json").read_text())
    for method in METHODS:
        folder, _ = whole[method]
        manifest = json.loads((folder / "manifest.json").read_text())
        assert (manifest["reward"], manifest["prompts"]) == (ppo["reward"], ppo["prompts"])
        assert timeless(rows_of(folder))[0] == timeless(rows_of(tmp_path / "ppo"))[0]  # held-out prompts, before
        assert abs(rows_of(folder)[1]["objective/kl"]) < 1e-5


@pytest.mark.parametrize(("method", "calls"), [("grpo", 4), ("rloo", 5), ("rloo", 6)])
def test_a_killed_run_resumes_bit_for_bit(
    method: str, calls: int, whole: dict[str, tuple[Path, Recipe]], sft: Path, tmp_path: Path
) -> None:
    folder, settings = whole[method]
    with pytest.raises(KeyboardInterrupt):
        train(method, settings, tmp_path / "run", sft, Letters(breaks_after=calls))
    assert not (tmp_path / "run" / "manifest.json").exists()
    adapter = train(method, settings, tmp_path / "run", sft, resume=True)
    assert file_bytes(adapter) == file_bytes(folder / "adapter")
    assert timeless(rows_of(tmp_path / "run")) == timeless(rows_of(folder))
    last = "checkpoints/step-0000004/trainable.safetensors"
    mine, theirs = load_file(tmp_path / "run" / last), load_file(folder / last)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert (tmp_path / "run" / "samples.jsonl").read_text() == (folder / "samples.jsonl").read_text()


def test_a_resume_after_the_last_step_only_finishes(
    whole: dict[str, tuple[Path, Recipe]], sft: Path, tmp_path: Path
) -> None:
    folder, settings = whole["grpo"]
    run = tmp_path / "run"
    train("grpo", settings, run, sft)
    (run / "manifest.json").unlink()
    scorer = Letters()
    assert file_bytes(train("grpo", settings, run, sft, scorer, resume=True)) == file_bytes(folder / "adapter")
    assert scorer.calls == 0 and (run / "manifest.json").exists()


def test_a_resume_with_another_ppo_section_is_refused(
    whole: dict[str, tuple[Path, Recipe]], backbone: Path, prompts: str
) -> None:
    folder, _ = whole["grpo"]
    other = told(backbone, prompts, ppo={"temperature": 0.5})
    with pytest.raises(UsageError, match="began with other settings: ppo changed"):
        Run(folder, step="grpo", recipe=other, resume=True)


def test_an_encoder_decoder_is_refused_before_it_is_loaded(tiny_t5: Path, prompts: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="encoder-decoder, and grpo trains decoder-only models: use `sawyer train"):
        train("grpo", told(tiny_t5, prompts), tmp_path / "run", None)


def test_an_adapter_of_the_output_layer_is_refused(backbone: Path, prompts: str, tmp_path: Path) -> None:
    settings = told(backbone, prompts, lora={"r": 4, "target": ["q_proj", "lm_head"]})
    with pytest.raises(RecipeError, match=r"lora.target .*lm_head.* adapts the output layer"):
        train("rloo", settings, tmp_path / "run", None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["grpo.group_size=5"], "ppo.batch_size 16 must be a multiple of grpo.group_size 5: set grpo.batch_size"),
        (["rloo={batch_size: 12, minibatch_size: 5}"], "rloo.batch_size 12 must be a multiple of rloo.minibatch_size"),
        (["grpo={minibatch_size: 4, micro_batch: 3}"], "grpo.minibatch_size 4 must be a multiple of grpo.micro_batch"),
        (["grpo.group_size=1"], "grpo.group_size: input should be greater than or equal to 2"),
        (["grpo.loss_type=sum"], "grpo.loss_type: input should be 'grpo'"),
        (["grpo.group=4"], "grpo.group: there is no such key; did you mean group_size"),
        (["ppo=null", "rloo={}"], "rloo takes its prompts, reward and sampling from the ppo section: add one"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_their_keys(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("tiny", overrides)


def test_a_missing_section_is_one_of_defaults_from_ppo() -> None:
    tiny = load_recipe("tiny")
    assert tiny.ppo is not None and tiny.grpo is None
    assert steps_of(load_recipe("tiny", ["grpo={}"])) == steps_of(tiny)  # no step of the pipeline
    grpo, rloo = (plan_of(method, tiny) for method in METHODS)
    same = ("steps", "batch_size", "minibatch_size", "micro_batch", "epochs", "lr", "clip", "temperature", "prompts")
    assert all(getattr(plan.ppo, key) == getattr(tiny.ppo, key) for plan in (grpo, rloo) for key in same)
    assert (grpo.spec.group_size, grpo.groups, grpo.beta) == (8, 2, 0.04)
    assert (rloo.spec.group_size, rloo.groups, rloo.beta) == (4, 4, tiny.ppo.kl.first)
    assert rloo.updates == 2 * 16 // 8 and rloo.ppo.kl.first == rloo.beta and rloo.ppo.kl.target is None
    small = plan_of("rloo", load_recipe("tiny", ["rloo={batch_size: 4, steps: 9}"]))
    assert (small.ppo.minibatch_size, small.ppo.micro_batch, small.ppo.steps, small.updates) == (4, 4, 9, 2)
    with pytest.raises(RecipeError, match=r"ppo.batch_size 12 must be a multiple of grpo.group_size 8"):
        plan_of("grpo", load_recipe("tiny", ["ppo.batch_size=12", "ppo.minibatch_size=6", "ppo.micro_batch=6"]))


def test_missing_stages_are_named(tmp_path: Path) -> None:
    tiny, home = load_recipe("tiny"), Home(tmp_path / "home").ensure()
    for told, parts, message in [
        (tiny, Parts(), "sawyer train base tiny"),
        (tiny, Parts(backbone="x"), "GRPO starts from the SFT adapter: run `sawyer train sft tiny`"),
        (tiny, Parts(backbone="x", sft=Path("y")), "GRPO needs a reward: run `sawyer train reward tiny`"),
        (load_recipe("tiny", ["ppo=null"]), Parts(backbone="x"), "grpo takes its prompts, reward and sampling from"),
    ]:
        with pytest.raises(UsageError, match=message):
            run_step("grpo", told, home, parts)


def test_advice_names_the_keys_of_the_method() -> None:
    text = "raise ppo.kl.beta or lower ppo.lr or ppo.steps, add a length part to ppo.reward"
    assert own_keys(text, "grpo") == "raise grpo.beta or lower grpo.lr or grpo.steps, add a length part to ppo.reward"
    assert own_keys(text, "ppo") == text
    # What a cure names is a key of that section: the method's own, or one that PPO's has and the method's has not.
    sections = {"grpo": GrpoSpec, "rloo": RlooSpec, "ppo": PpoSpec, "lora": LoraSpec, "model": ModelSpec}
    for method in METHODS:
        for sign in signs(plan_of(method, load_recipe("tiny")).ppo):
            named = [found.group().rpartition(".") for found in KEY.finditer(own_keys(sign.cure, method))]
            assert all(key in sections[section].model_fields for section, _, key in named), sign.cure
            assert not [key for section, _, key in named if section == "ppo" and key in sections[method].model_fields]


def test_a_collapsing_run_is_stopped_with_advice_on_its_own_keys(
    backbone: Path, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = trl_trainers.describe
    monkeypatch.setattr(trl_trainers, "describe", lambda *given: {**described(*given), "objective/kl": 80.0})
    settings = told(backbone, prompts, ppo={"steps": 8})
    with pytest.raises(
        TrainingError, match=r"GRPO was stopped at step 6 .*: raise grpo.beta or lower grpo.lr\. .*ppo.watch"
    ):
        train("grpo", settings, tmp_path / "run", None)


@pytest.mark.parametrize("method", METHODS)
def test_the_doctor_knows_the_method_and_its_keys(
    method: str, whole: dict[str, tuple[Path, Recipe]], tmp_path: Path
) -> None:
    """Of a finished run by its manifest, of one under way by its folder, as both lie under ``runs/<recipe>``."""
    home = Home(tmp_path / "home").ensure()
    run = home.runs / "test" / method
    shutil.copytree(whole[method][0], run)
    rows = rows_of(run)
    drifted = [{**rows[-1], "step": step, "objective/kl": 80.0} for step in range(5, 12)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *drifted]))
    assert find_run(f"test/{method}", home) == find_run("test", home) == find_run(str(run), home) == run
    for name in (run, run.with_name(f"{method}.before"), tmp_path / "anywhere"):
        run.rename(name)
        cures = [finding.cure for finding in diagnose(name).findings if finding.name.startswith("KL above")]
        assert cures == [f"raise {method}.beta or lower {method}.lr"]
        name.rename(run)
    (run / "manifest.json").unlink()
    assert method_of(run) == method
    with pytest.raises(UsageError, match=rf"no run 'other' of PPO, GRPO or RLOO.*: test/{method}\."):
        find_run("other", home)
    folder = home.runs / "test" / "ppo"
    shutil.copytree(run, folder)
    assert find_run("test", home) == folder and method_of(folder) == "ppo"


def test_curves_leave_out_what_a_run_has_no_figures_of(whole: dict[str, tuple[Path, Recipe]], tmp_path: Path) -> None:
    rows = rows_of(whole["grpo"][0])
    titles = [title for title, _ in PANELS]
    assert list(shown(rows)) == titles[:-1] and "value head" in titles[-1]
    assert list(shown([{**row, "value/explained_variance": 0.5} for row in rows])) == titles
    assert shown([{"step": 1, "objective/entropy": 2.0}]) == {"Entropy, nats a token": {"policy": [(1, 2.0)]}}
    for number, some in enumerate((rows, rows[:1], [{"step": 1.0, "objective/entropy": 2.0}])):
        draw_curves(some, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_a_resume_of_a_finished_run_registers_and_promotes_nothing(
    backbone: Path, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(step: str, recipe: Recipe, run: Run, parts: Parts) -> Path:
        with run.output("adapter") as folder:
            save_file({"step": torch.tensor([float(len(step))])}, folder / "adapter_model.safetensors")
        run.finish(run.folder / "adapter")
        return run.folder / "adapter"

    monkeypatch.setattr(pipeline, "train_into", fake)
    settings = told(backbone, prompts, ppo={"reward": [{"length": {"target": 3}}]})
    home = Home(tmp_path / "home").ensure()
    registry = Registry.of(settings, home)

    def now() -> tuple[int, str]:
        current = registry.current("rlf")
        assert current is not None
        return len(registry.versions("rlf")), current.ref

    assert [train_one(method, settings, home) for method in ("grpo", "ppo")] == ["rlf@1", "rlf@2"]
    assert train_one("grpo", settings, home, resume=True) == "rlf@1" and now() == (2, "rlf@2")
    assert train_one("ppo", settings, home, resume=True) == "rlf@2" and now() == (2, "rlf@2")
    assert train_one("grpo", settings, home) == "rlf@3" and now() == (3, "rlf@3")  # trained anew

    # Killed between registering and promoting: the version is there, and becomes current now.
    other = told(backbone, prompts, ppo={"reward": [{"length": {"target": 3}}]}).model_copy(update={"name": "other"})
    registry = Registry.of(other, home)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Registry, "promote", interrupted)
        train_one("rloo", other, home)
    assert train_one("rloo", other, home, resume=True) == "rlf@1" and now() == (1, "rlf@1")


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", METHODS)
def test_the_command_trains_registers_and_promotes(method: str, backbone: Path, prompts: str, tmp_path: Path) -> None:
    settings = told(backbone, prompts, ppo={"reward": [{"length": {"target": 3, "slack": 0}}], "steps": 2})
    (tmp_path / "small.yaml").write_text(json.dumps(settings.model_dump(mode="json")), encoding="utf-8")
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "sawyer.cli.app", "train", method, "small.yaml", "--home", str(home)],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done: rlf@1 is now current" in " ".join(done.stdout.split()) and f"{method} 2/2" in done.stderr
    current = Registry.of(settings, Home(home)).current("rlf")
    assert current is not None and current.info["method"] == method and current.info["sft"] is None
    assert set(current.info["statistics"]) == {"length"}
    assert (home / "runs" / "test" / method / "manifest.json").exists()
