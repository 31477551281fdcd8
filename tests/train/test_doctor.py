"""The doctor on runs that are made to go wrong: it names the fault of each, and is silent on a healthy one."""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sawyer.errors import TrainingError, UsageError
from sawyer.home import Home
from sawyer.recipe import PpoSpec, Recipe, load_recipe
from sawyer.runs import Run, read_lines
from sawyer.scoring import Part, Reward
from tests.test_cli import sawyer
from tests.train.makers import make_backbone, recipe, sentence, write_lines
from train.doctor import diagnose, find_run
from train.ppo import loop, train_ppo
from train.ppo.watch import examine, signs

NANO_METRICS = Path(__file__).parent / "nano_ppo_metrics.jsonl"


class Function:
    """A plain function of the reply as a scorer."""

    def __init__(self, function: Callable[[str], float]) -> None:
        self.function = function

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> np.ndarray:
        return np.array([self.function(response) for response in responses], dtype=np.float32)


def letters(response: str) -> float:
    return float(response.count("e"))


def repeats(response: str) -> float:
    """How often the commonest letter of a reply occurs."""
    return float(max(Counter(response).values(), default=0))


def fewer(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """The guard of the hacking run: likes what the reward does not."""
    return [-letters(response) for response in responses]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random backbone that ends about every tenth reply at each token, so that lengths differ."""
    folder = make_backbone(tmp_path_factory.mktemp("backbone"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer(sentence(random.Random(n), 6))["input_ids"][:6] for n in range(20)])
    with torch.no_grad():
        output = model(ids, output_hidden_states=True)
        state = output.hidden_states[-1].flatten(0, 1)
        wanted = output.logits.flatten(0, 1).logsumexp(-1, keepdim=True) - 2.2  # the log of a tenth
        model.get_input_embeddings().weight[tokenizer.eos_token_id] = torch.linalg.lstsq(state, wanted).solution[:, 0]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    lines = [{"prompt": sentence(random.Random(n), 3)} for n in range(40)]
    return write_lines(tmp_path_factory.mktemp("data") / "prompts.jsonl", lines)


def told(backbone: Path, prompts: str, **changes: Any) -> Recipe:
    section = {
        "prompts": [{"name": prompts}],
        "reward": "unused",
        "steps": 12,
        "batch_size": 16,
        "minibatch_size": 8,
        "micro_batch": 8,
        "epochs": 2,
        "max_prompt": 48,
        "max_new_tokens": 8,
        "lr": 3e-3,
        "value_lr": 1e-2,
        "kl": {"beta": 0.05},
        "normalize_samples": 32,
        "sample_every": 4,
        "save_every": 4,
        "held_out": 0.3,
        "missing_eos_penalty": 0.0,
        "watch": False,
    }
    return recipe(backbone, ppo=section | changes)


def train(asked: Recipe, folder: Path, score: Callable[[str], float]) -> Path:
    with Run(folder, step="ppo", recipe=asked) as run:
        train_ppo(asked, run, asked.model.backbone, None, Reward([Part("mine", Function(score))]))
    return folder


BROKEN = {
    "a reward for repetition": (
        {"steps": 40, "lr": 2e-2, "epochs": 4, "kl": {"beta": 0.0}},
        repeats,
        {"repeat", "entropy", "no longer end", "KL above"},
    ),
    "a rate of almost nothing": ({"steps": 24, "lr": 1e-12}, letters, {"stands still"}),
    "a target KL that ends every update": ({"target_kl": 1e-7, "lr": 1e-2, "epochs": 8}, letters, {"cut short"}),
    "a reward that its guard contradicts": (
        {
            "steps": 40,
            "lr": 2e-2,
            "epochs": 4,
            "kl": {"beta": 0.0},
            "guard": {"function": "tests.train.test_doctor:fewer"},
        },
        letters,
        {"reward hacking"},
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_fault_of_a_broken_run_is_named(backbone: Path, prompts: str, tmp_path: Path, fault: str) -> None:
    changes, score, expected = BROKEN[fault]
    found = diagnose(train(told(backbone, prompts, **changes), tmp_path / "run", score))
    names = [finding.name for finding in found.findings]
    assert any(word in name for word in expected for name in names), (names, found.figures)
    for finding in found.findings:
        assert (finding.seen and finding.meaning and "ppo." in finding.cure) or "prompts" in finding.cure
    assert found.finished and found.steps == found.planned


def test_a_healthy_run_is_left_in_peace_and_the_command_says_so(backbone: Path, prompts: str, tmp_path: Path) -> None:
    folder = train(told(backbone, prompts, kl={"beta": 0.2}, lr=1e-3), tmp_path / "run", letters)
    assert diagnose(folder).findings == []
    done = sawyer("doctor", str(folder))
    assert done.returncode == 0 and "Nothing is wrong with it." in done.stdout and "step 12 of 12" in done.stdout


def test_a_watched_run_is_stopped_and_its_best_policy_kept(
    backbone: Path, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = loop.describe
    monkeypatch.setattr(loop, "describe", lambda *given: {**described(*given), "objective/kl": 80.0})
    asked = told(backbone, prompts, watch=True, sample_every=1, kl_budget=1e9)
    with pytest.raises(TrainingError, match=r"at step 6 .*is collapsing: .*The best policy before it .step \d+.*best"):
        train(asked, tmp_path / "run", letters)
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    probes = [row for row in read(tmp_path / "run") if "heldout/score" in row and row["step"]]
    assert best["score"] == pytest.approx(max(row["heldout/score"] for row in probes))
    assert (tmp_path / "run" / "best" / "adapter" / "adapter_model.safetensors").exists()
    done = sawyer("doctor", str(tmp_path / "run"))
    assert done.returncode == 1 and "not finished" in done.stdout and "try:" in done.stdout


def test_no_policy_beyond_the_kl_budget_is_kept_as_the_best(backbone: Path, prompts: str, tmp_path: Path) -> None:
    asked = told(backbone, prompts, steps=6, sample_every=1, kl_budget=1e-9, lr=1e-2)
    train(asked, tmp_path / "run", letters)
    assert json.loads((tmp_path / "run" / "best" / "best.json").read_text())["step"] == 1  # its KL is exactly 0


def read(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


SETTINGS = PpoSpec.model_validate({"prompts": [{"name": "any"}]})
STEADY = {
    "objective/kl": 2.0,
    "objective/score": 0.5,
    "policy/updates": 8.0,
    "policy/ratio": 1.0,
    "policy/first_gap": 0.0,
    "policy/clip_fraction": 0.1,
    "policy/grad_norm": 0.5,
    "value/explained_variance": 0.3,
    "rollout/length_correlation": 0.85,
    "rollout/empty_rate": 0.0,
    "rollout/drift": 0.01,
}


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        ({"policy/first_gap": 0.3}, "old log-probabilities are not the policy's own"),
        ({"rollout/drift": 0.5}, "sampling and update disagree"),
        ({"policy/ratio": 1.5}, "the ratio leaves its range"),
        ({"policy/clip_fraction": 0.7}, "most of the update is clipped"),
        ({"value/explained_variance": -1.0}, "the value head predicts worse than a constant"),
        ({"rollout/length_correlation": 0.98}, "the reward is little but length"),
        ({"rollout/empty_rate": 0.5}, "empty replies"),
        ({"policy/grad_norm": 500.0}, "gradients explode"),
        ({"policy/updates": 1.0}, "updates are cut short"),
        ({"objective/score": 4.8, "heldout/score": 4.8}, "the reward is saturated"),
        ({"heldout/score": -2.0}, "the gain does not carry over"),
        ({"objective/kl": float("nan")}, "a figure is not finite"),
    ],
)
def test_signs_that_no_small_run_shows_are_read_from_figures(figures: dict[str, float], name: str) -> None:
    healthy = [{"step": step, "heldout/score": 0.4, **STEADY} for step in range(1, 20)]
    assert examine(healthy, SETTINGS) == []
    ill = [*healthy, *({"step": step, "heldout/score": 0.4, **STEADY, **figures} for step in range(20, 24))]
    assert [finding.name for finding in examine(ill, SETTINGS)] == [name]


def test_a_run_that_is_none_is_said(tmp_path: Path, backbone: Path, prompts: str) -> None:
    home = Home(tmp_path).ensure()
    with pytest.raises(UsageError, match=r"no PPO run 'nano'.*none yet"):
        find_run("nano", home)
    with Run(home.runs / "test" / "ppo", step="ppo", recipe=told(backbone, prompts)) as run:
        run.log(0, **{"heldout/score": 0.0})
    assert find_run("test", home) == home.runs / "test" / "ppo"
    with pytest.raises(UsageError, match="the doctor reads runs of `sawyer train ppo`"):
        diagnose(home.runs / "test" / "ppo")


def test_the_machine_is_looked_over(tmp_path: Path) -> None:
    done = sawyer("doctor", "--home", str(tmp_path / "home"))
    assert done.returncode == 0, done.stdout
    for word in ("Python", "extra train", "free disk", "device"):
        assert word in done.stdout
    assert not (tmp_path / "home").exists()  # looking changes nothing


def test_the_documentation_names_every_sign() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "ppo.md").read_text(encoding="utf-8")
    names = {sign.name for sign in signs(SETTINGS)}
    names |= {"a figure is not finite", "reward hacking", "the gain does not carry over"}
    assert [name for name in sorted(names) if f"| {name} |" not in page] == []


def test_the_run_of_the_shipped_nano_model_has_nothing_wrong() -> None:
    spec = load_recipe("nano").ppo
    rows = read_lines(NANO_METRICS)
    assert spec is not None and rows[-1]["step"] == spec.steps
    for end in range(1, len(rows) + 1):  # nor had it at any step
        assert examine(rows[:end], spec) == []
