"""The whole evaluation on a tiny random Llama: figures, files, resuming, and every clear refusal."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sawyer.errors import DataError, ModelError, UsageError
from sawyer.evaluation import Models, Report, evaluate
from sawyer.evaluation import replies as replies_module
from sawyer.evaluation.canvas import Plot
from sawyer.evaluation.divergence import response_kl
from sawyer.evaluation.measure import Extras
from sawyer.evaluation.prompts import choose_prompts, held_out_prompts, spread
from sawyer.evaluation.replies import ReplyCache
from sawyer.generation import Generation, generate
from sawyer.home import Home
from sawyer.runs import check_sealed
from tests.sawyer.evaluation_makers import FakeScorer, fill_registry, make_recipe, write_prompts


@pytest.fixture
def home(sawyer_home: Path) -> Home:
    return Home.find(sawyer_home)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time of a small evaluation: only one test here draws."""
    # By import_module: the package exports the function of the same name.
    module = importlib.import_module("sawyer.evaluation.evaluate")
    monkeypatch.setattr(module, "draw_all", lambda report: {"rewards": Plot(b"light", b"dark", b"svg", "a plot")})


@pytest.fixture
def recipe(tiny_backbone: Path, tmp_path: Path) -> Any:
    return make_recipe(tiny_backbone, write_prompts(tmp_path / "asked.jsonl", 20))


@pytest.fixture
def models(policy: Any) -> Models:
    return Models(policy, FakeScorer(), "fake scorer", {"rlf": "rlf@3"})


def test_the_report_and_its_files(recipe: Any, home: Home, models: Models) -> None:
    report = evaluate(recipe, home, models=models)
    folder = home.runs / "trial" / "evaluate"
    assert Report.model_validate_json((folder / "report.json").read_text()) == report
    assert check_sealed(folder)["files"].keys() == {
        "report.json", "report.html", "answers.jsonl", "card.md",
        *(f"{name}.{suffix}" for name in ("rewards", "differences", "kl") for suffix in ("png", "svg")),
    }  # fmt: skip
    assert [(pair.before, pair.after) for pair in report.pairs] == [("base", "sft"), ("sft", "rlf")]
    assert report.stage("rlf").version == "rlf@3" and report.prompts.count == 12 and report.prompts.found == 20
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    texts = [line["replies"][2]["text"] for line in answers]
    rewards = np.array([text.count("e") - 0.01 * len(text) for text in texts])
    figures = report.stage("rlf")
    assert figures.mean.value == pytest.approx(rewards.mean(), abs=1e-6)
    assert figures.deviation.value == pytest.approx(rewards.std(ddof=1), abs=1e-6)
    assert figures.length == np.mean([line["replies"][2]["tokens"] for line in answers])
    assert figures.eos_rate == np.mean([line["replies"][2]["finished"] for line in answers])
    pair = report.pair("sft", "rlf")
    assert pair.difference.value == pytest.approx(figures.mean.value - report.stage("sft").mean.value, abs=1e-6)
    assert pair.kl is not None and pair.kl.k3.value > 0 and report.pair("base", "sft").kl is None
    assert [criterion.name for criterion in report.acceptance] == [
        "reward gain, paired p", "KL", "length ratio", "distinct-2 ratio"
    ]  # fmt: skip
    assert report.accepted is all(criterion.met for criterion in report.acceptance)
    assert [sample.kind for sample in report.samples] == ["best"] * 2 + ["worst"] * 2 + ["random"] * 2


def test_kl_equals_generation_log_probabilities(policy: Any) -> None:
    """k1 of a sampled reply is its own log-probability less the reference's, token by token."""
    prompts = [
        policy.chat.encode_prompt([{"role": "user", "content": t}], "rlf") for t in ("Hello!", "What is tea, please?")
    ]
    made = generate(policy, prompts, stage="rlf", max_tokens=10, temperature=0.8, seed=2)
    responses = [reply.ids for reply in made]
    figures = response_kl(policy, "rlf", "sft", prompts, responses, temperature=0.8, batch_size=2)
    alone = response_kl(policy, "rlf", "sft", prompts, responses, temperature=0.8, batch_size=1)
    assert figures.k1 == pytest.approx(alone.k1, abs=1e-4) and figures.k3 == pytest.approx(alone.k3, rel=1e-4)
    theirs = response_kl(policy, "sft", "rlf", prompts, responses, temperature=0.8, batch_size=2)
    assert theirs.k1 == pytest.approx(-figures.k1)
    assert not response_kl(policy, "rlf", "rlf", prompts, responses, temperature=0.8, batch_size=2).k3.any()
    import torch

    ids = torch.tensor([prompts[0] + responses[0]])
    with torch.no_grad(), policy.using("sft") as model:
        logprobs = (model(ids).logits[0, len(prompts[0]) - 1 : -1] / 0.8).log_softmax(-1)
    reference = sum(float(logprobs[t, token]) for t, token in enumerate(responses[0]))
    assert figures.k1[0] == pytest.approx(sum(made[0].logprobs) - reference, abs=1e-3)


@pytest.mark.usefixtures("no_plots")
def test_tests_and_lengths_are_those_of_the_rewards(recipe: Any, home: Home, models: Models) -> None:
    report = evaluate(recipe, home, models=models, extras=Extras(command="sawyer evaluate trial"))
    pair, kl = report.pair("sft", "rlf"), report.pair("sft", "rlf").kl
    before, after = (np.array(report.stage(name).rewards) for name in ("sft", "rlf"))
    assert pair.mann_whitney_p == pytest.approx(stats.mannwhitneyu(after, before).pvalue)
    assert pair.variance_p == pytest.approx(stats.levene(before, after).pvalue)
    assert pair.t_p is not None and pair.t_p_holm is not None and pair.t_p <= pair.t_p_holm <= 2 * pair.t_p + 1e-12
    assert kl is not None and kl.same_replies and np.mean(kl.each) == pytest.approx(kl.k1.value, abs=1e-4)
    assert kl.reward_correlation == pytest.approx(
        stats.spearmanr(kl.each, after - before).statistic, abs=0.05
    )  # rounded figures tie
    assert pair.length_matched is not None and pair.length_matched.n <= 12
    assert list(report.data) == [recipe.evaluate.prompts[0].name]
    card = (home.runs / "trial" / "evaluate" / "card.md").read_text()
    assert "`sawyer evaluate trial`" in card and next(iter(report.data.values())) in card
    assert report.command == "sawyer evaluate trial" and len({stage.weights for stage in report.stages}) == 3


@pytest.mark.usefixtures("no_plots")
def test_a_judge_that_sees_the_opposite_warns_of_reward_hacking(recipe: Any, home: Home, policy: Any) -> None:
    """A reward that always rises towards rlf, and a judge that always falls."""

    class Rising:
        def __init__(self, sign: float) -> None:
            self.sign, self.calls = sign, 0

        def score(self, prompts: Any, responses: Any) -> np.ndarray:
            self.calls += 1
            noise = np.linspace(0, 0.5, len(responses)) * (-1) ** np.arange(len(responses))
            return (self.sign * self.calls + noise * self.calls).astype(np.float32)

    models = Models(policy, Rising(1), "reward@1", judge=Rising(-1), judge_name="judge@1")
    report = evaluate(recipe, home, models=models)
    assert report.judge is not None and report.judge.name == "judge@1"
    assert [("reward hacking" in (gain.warning or "")) for gain in report.judge.gains] == [True, True]
    part = next(part for part in report.parts if part.role == "judge")
    assert part.comparisons[1].difference.value == pytest.approx(-1.0, abs=0.05) and part.comparisons[1].t_p_holm
    agreed = evaluate(recipe, home, models=Models(policy, Rising(1), "reward@1", judge=Rising(2), judge_name="judge@1"))
    assert agreed.judge is not None and [gain.warning for gain in agreed.judge.gains] == [None, None]


@pytest.mark.usefixtures("no_plots")
def test_an_interrupted_evaluation_resumes(
    recipe: Any, home: Home, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(recipe, home, models=models)
    cache = home.runs / "trial" / "evaluate" / "replies.jsonl"
    lines = cache.read_text(encoding="utf-8").split("\n")
    cache.write_text("\n".join(lines[:17]) + "\n" + lines[17][:20], encoding="utf-8")  # killed in the middle of a line
    asked: list[int] = []
    answer = replies_module._answer

    def counted(policy: Any, rows: Any) -> list[Generation]:
        asked.append(len(rows))
        return answer(policy, rows)

    monkeypatch.setattr(replies_module, "_answer", counted)
    again = evaluate(recipe, home, models=models)
    assert sum(asked) == 3 * 12 - 17
    unlike = {"created", "seconds"}
    assert again.model_dump(exclude=unlike) == whole.model_dump(exclude=unlike)
    asked.clear()
    evaluate(recipe, home, models=models)
    assert asked == []


@pytest.mark.usefixtures("no_plots")
def test_kept_replies_belong_to_the_weights(recipe: Any, home: Home, models: Models) -> None:
    import torch

    before = evaluate(recipe, home, models=models)
    with torch.no_grad():
        for parameter in models.policy.parameters_of("rlf"):
            parameter.mul_(0.5)
    after = evaluate(recipe, home, models=models)
    assert after.stage("sft").rewards == before.stage("sft").rewards
    assert after.stage("rlf").rewards != before.stage("rlf").rewards


def test_a_reply_with_odd_line_breaks_is_kept(tmp_path: Path) -> None:
    reply = Generation([1, 2], "one\u2028two\x85three\nfour", True, [])
    ReplyCache(tmp_path / "replies.jsonl").add({"key": reply})
    assert ReplyCache(tmp_path / "replies.jsonl").get("key") == reply


@pytest.mark.usefixtures("no_plots")
def test_versions_come_from_the_registry(
    recipe: Any, home: Home, tiny_adapters: dict[str, Path], tiny_classifier: Path, policy: Any
) -> None:
    registry = fill_registry(recipe, home, tiny_adapters, tiny_classifier, policy.fingerprint)
    registry.register("rlf", tiny_adapters["sft"], info={"backbone": policy.fingerprint, "second": True})
    report = evaluate(recipe, home, stages=["sft", "rlf@1", "rlf@2"], out=home.root / "there")
    assert [stage.version for stage in report.stages] == ["sft@1", "rlf@1", "rlf@2"]
    assert [(p.before, p.after) for p in report.pairs] == [("sft", "rlf@1"), ("rlf@1", "rlf@2"), ("sft", "rlf@2")]
    assert report.judge is not None and "add `judge: {}`" not in (report.judge.note or "") and report.judge.name is None
    assert report.reward_model == "reward@1" and (home.root / "there" / "report.html").exists()
    # rlf@2 is a copy of sft: same replies, no divergence, no test, and the report says so.
    pair = report.pair("sft", "rlf@2")
    assert pair.identical_replies == 12 and pair.t_p is None and "same text" in (pair.note or "")
    assert pair.kl is not None and pair.kl.k1.value == 0.0
    assert report.accepted is False and not report.acceptance[0].met and "same text" in report.acceptance[0].explanation


@pytest.mark.usefixtures("no_plots")
def test_greedy_replies_are_not_used_for_the_kl(
    tiny_backbone: Path, tmp_path: Path, home: Home, models: Models
) -> None:
    greedy = make_recipe(tiny_backbone, write_prompts(tmp_path / "p.jsonl", 10), evaluate={"temperature": 0.0})
    pair = evaluate(greedy, home, stages=["sft", "rlf"], models=models).pair("sft", "rlf")
    assert pair.kl is not None and pair.kl.temperature == 1.0 and pair.kl.k3.value > 0


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["base", "sft", "rlf"], "Stage rlf of recipe trial has no adapter yet"),
        (["base", "sft@7"], "no version sft@7. There are: sft@1"),
        (["reward"], "cannot be evaluated"),
        (["dpo"], "names no version"),
        (["sft", "sft"], "given twice: sft"),
        ([], "at least one stage"),
    ],
)
def test_unusable_stages_are_refused(
    recipe: Any, home: Home, tiny_adapters: dict[str, Path], tiny_classifier: Path, stages: list[str], words: str
) -> None:
    fill_registry(recipe, home, {"sft": tiny_adapters["sft"]}, tiny_classifier, "any")
    with pytest.raises(UsageError, match=words):
        evaluate(recipe, home, stages=stages)


def test_an_adapter_of_another_backbone_is_refused(
    recipe: Any, home: Home, tiny_adapters: dict[str, Path], tiny_classifier: Path
) -> None:
    fill_registry(recipe, home, {"sft": tiny_adapters["sft"]}, tiny_classifier, "another")
    with pytest.raises(UsageError, match="another backbone"):
        evaluate(recipe, home)


def test_a_missing_reward_model_is_named(recipe: Any, home: Home) -> None:
    with pytest.raises(UsageError, match="no reward model"):
        evaluate(recipe, home, stages=["base"])


@pytest.mark.usefixtures("no_plots")
def test_too_few_prompts_say_how_many_are_needed(
    tiny_backbone: Path, tmp_path: Path, home: Home, models: Models
) -> None:
    few = make_recipe(tiny_backbone, write_prompts(tmp_path / "few.jsonl", 7))
    with pytest.raises(DataError, match=r"needs at least 8, and there are 7"):
        evaluate(few, home, models=models)
    assert evaluate(few, home, stages=["sft"], models=models).pairs == [], "one stage is described without a test"


def test_broken_scores_are_refused(recipe: Any, home: Home, policy: Any) -> None:
    class Broken(FakeScorer):
        def score(self, prompts: Any, responses: Any) -> np.ndarray:
            return np.full(len(responses), np.nan, np.float32)

    with pytest.raises(ModelError, match="0 usable scores for 12 replies"):
        evaluate(recipe, home, models=Models(policy, Broken(), "broken"))


def test_a_folder_that_cannot_be_written_is_named(recipe: Any, home: Home, models: Models, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"--out DIR|cannot be written"):
        evaluate(recipe, home, models=models, out=tmp_path / "file" / "report")


def test_prompts_of_training_sources_are_the_part_nobody_learns_from(tiny_backbone: Path, tmp_path: Path) -> None:
    name = write_prompts(tmp_path / "shared.jsonl", 400)
    sections = {
        "sft": {"sources": [{"name": name}], "held_out": 0.1, "max_length": 64},
        "reward": {"sources": [{"name": "pairs"}]},
        "ppo": {"prompts": [{"name": name}], "held_out": 0.3},
        "evaluate": {"prompts": []},
    }
    held = held_out_prompts(make_recipe(tiny_backbone, name, **sections))
    from sawyer.data import is_held_out

    assert 15 < len(held) < 70 and all(is_held_out(p.messages, 0.08) for p in held), "reward.held_out is the smallest"
    named = make_recipe(tiny_backbone, name, **{**sections, "evaluate": {"prompts": [{"name": name}]}})
    assert held_out_prompts(named) == held, "naming a training source in evaluate.prompts leaks nothing"


def test_prompts_without_room_for_a_reply_are_left_out(tiny_backbone: Path, tmp_path: Path, policy: Any) -> None:
    path = tmp_path / "long.jsonl"
    name = write_prompts(path, 9)
    with path.open("a") as stream:
        stream.write(json.dumps({"prompt": "tea " * 400}) + "\n")
    chosen = choose_prompts(make_recipe(tiny_backbone, name), policy.chat, ["base", "sft"], policy.context)
    assert (len(chosen.prompts), chosen.found, chosen.left_out) == (9, 9, 1)


def test_spread_takes_prompts_evenly() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]  # type: ignore[arg-type]
    assert spread([1, 2], 4) == [1, 2]  # type: ignore[list-item]
