"""lm-evaluation-harness on a policy's stages: tasks of ours on local data, or the harness's own from the hub."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sawyer.errors import DataError, UsageError
from sawyer.evaluation.benchmarks import local
from sawyer.models import Policy

TASKS = Path(__file__).with_name("tasks")
MISSING = (
    "Benchmarks need lm-evaluation-harness, which is missing: `pip install -c constraints.txt -e '.[harness]'` in "
    "a checkout of SAWYER, else `pip install 'sawyer[harness]'`. Or leave --benchmarks out."
)
TRUTHFULQA = ("truthfulqa_mc1", "truthfulqa_mc2")


def check_harness() -> None:
    """Raise UsageError, with the way to install it, where the harness is missing."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise UsageError(MISSING) from error


def expand(names: Sequence[str]) -> list[str]:
    """``mmlu`` becomes every subject at hand, ``truthfulqa`` both forms; each name once.

    Raises:
        UsageError: none is named. DataError: ``mmlu`` without data.
    """
    found: list[str] = []
    for name in names:
        if name == "mmlu":
            subjects = local.mmlu_subjects()
            if not subjects:
                local.mmlu("abstract_algebra", "test")  # says what is missing
            found += [f"mmlu_{subject}" for subject in subjects]
        else:
            found += TRUTHFULQA if name == "truthfulqa" else (name,)
    if not found:
        raise UsageError("Name at least one benchmark, such as truthfulqa,mmlu_world_religions or mmlu.")
    return list(dict.fromkeys(found))


def build_task(name: str) -> Any:
    """A task of the harness: ours on local data for TruthfulQA and MMLU, else the one of that name from the hub.

    Raises:
        DataError: local data are absent or damaged. UsageError: the harness knows no such task, or cannot load it.
    """
    if name in TRUTHFULQA:
        return _local_task("truthfulqa_mc1", _truthfulqa_changes(name))
    if name.startswith("mmlu_"):
        return _local_task("mmlu", _mmlu_changes(name.removeprefix("mmlu_")))
    from lm_eval.tasks import TaskManager

    try:
        loaded = TaskManager().load(name)["tasks"]
    except Exception as error:  # the harness raises whatever its loader or the hub raised
        raise UsageError(
            f"The harness could not load the task {name!r}: {str(error)[:200]}. Without network there are "
            "truthfulqa_mc1, truthfulqa_mc2, mmlu and mmlu_SUBJECT, on the data in SAWYER_DATA."
        ) from error
    if len(loaded) != 1:
        listed = ", ".join(list(loaded)[:8])
        raise UsageError(f"{name!r} is a group of {len(loaded)} tasks; name those you want: {listed}, …")
    return next(iter(loaded.values()))


def open_model(policy: Policy, stage: str, batch_size: int) -> Any:
    """The harness's view of one stage; only to be asked while ``policy.using(stage)`` holds."""
    from lm_eval.models.huggingface import HFLM

    model = policy.model.get_base_model() if policy.stages != ("base",) else policy.model
    return HFLM(pretrained=model, tokenizer=policy.tokenizer, batch_size=batch_size, max_length=policy.context)


def run_task(model: Any, task: Any, *, limit: int | None, fewshot: int | None, seed: int) -> tuple[np.ndarray, str]:
    """Ask one task.

    Returns:
        ``[n]`` the first metric of each question, in the order of the data, and that metric's name.
    """
    from lm_eval.evaluator import simple_evaluate

    # It tells at length what it was given, and of every prompt longer than the context, which it cuts on the left.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    name = task.config.task
    found = simple_evaluate(
        model=model,
        tasks=[task],
        num_fewshot=fewshot,
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    assert found is not None
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    metric = samples[0]["metrics"][0]
    return np.array([float(sample[metric]) for sample in samples]), metric


def _local_task(file: str, changes: Mapping[str, Any]) -> Any:
    import yaml
    from lm_eval.api.task import ConfigurableTask

    config = yaml.safe_load((TASKS / f"{file}.yaml").read_text(encoding="utf-8"))
    return ConfigurableTask(config=config | changes)


def _truthfulqa_changes(name: str) -> dict[str, Any]:
    docs = local.truthfulqa()
    if name == "truthfulqa_mc2" and not all("mc2_targets" in doc for doc in docs):
        raise DataError("The file truthfulqa/mc_task.json has questions without mc2_targets. Take the published one.")
    changes: dict[str, Any] = {"task": f"sawyer_{name}", "custom_dataset": partial(_dataset, {"validation": docs})}
    if name == "truthfulqa_mc2":
        changes |= {"doc_to_choice": "{{mc2_targets.choices}}", "process_results": share_of_true}
        changes["metadata"] = {"version": 3.0}
    return changes


def _mmlu_changes(subject: str) -> dict[str, Any]:
    splits = {split: local.mmlu(subject, split) for split in ("test", "dev")}
    told = subject.replace("_", " ")
    return {
        "task": f"sawyer_mmlu_{subject}",
        "custom_dataset": partial(_dataset, splits),
        "description": f"The following are multiple choice questions (with answers) about {told}.\n\n",
    }


def _dataset(splits: Mapping[str, local.Docs], **_: Any) -> dict[str, Any]:
    from datasets import Dataset

    return {split: Dataset.from_list(docs) for split, docs in splits.items()}


def share_of_true(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """mc2: the true answers' share of the probability of all; as the harness computes it."""
    told = np.exp(np.array([logprob for logprob, _ in results]))
    shares = told / np.sum(told)
    return {"acc": float(np.sum(shares[np.array(doc["mc2_targets"]["labels"]) == 1]))}
