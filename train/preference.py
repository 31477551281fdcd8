"""DPO, IPO, KTO and ORPO: ``rlf`` learns from given replies, by TRL's losses, from where PPO would start.

``rlf`` begins as a copy of ``sft``, and a frozen copy of that adapter is the reference: the backbone is held once. ORPO
needs no reference, and may begin as a fresh adapter on the backbone (``orpo.start: base``).
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import set_seed

from sawyer.compute import compute_dtype, set_threads
from sawyer.errors import RecipeError, TrainingError
from sawyer.loading import load_config
from sawyer.models import Policy
from sawyer.recipe import PreferencePlan, Recipe, preference_plan
from sawyer.runs import Run
from train.callbacks import Reporter
from train.ppo.actor import STAGE, check_made_for
from train.preference_data import PreferenceRows, load_rows
from train.preference_trainers import NAMES, make_trainer
from train.samples import greedy_samples
from train.trl_trainers import reference_of


def train_preference(method: str, recipe: Recipe, run: Run, backbone: Path | str, sft: Path | None) -> Path:
    """Tune ``rlf`` by ``method`` (dpo, ipo, kto or orpo) and return its adapter's folder.

    Resumes from the run's newest sound checkpoint when the run was opened with ``resume``.

    Raises:
        RecipeError: no data are named, or batches do not divide. DataError: a source is missing or unusable.
        ModelError: a model cannot be loaded. CheckpointError: a checkpoint cannot be written.
        TrainingError: an encoder-decoder, nothing left to train on, one kind of reply only, a loss that is not finite.
    """
    plan = preference_plan(method, recipe)
    set_threads(recipe.threads)
    from_base = method == "orpo" and recipe.orpo is not None and recipe.orpo.start == "base"
    policy = start_policy(method, recipe, backbone, None if from_base else sft)
    rows = load_rows(plan, policy.chat, STAGE, policy.context, recipe.seed)
    learn(plan, run, policy, rows)
    return finish(run, policy, method=method, start="sft" if sft and not from_base else "base", rows=rows.counts())


def start_policy(method: str, recipe: Recipe, backbone: Path | str, start: Path | None) -> Policy:
    """The backbone with ``rlf``: a copy of the adapter in ``start``, or a fresh one where there is none.

    Raises:
        TrainingError: an encoder-decoder. RecipeError: an adapted output layer. ModelError: what cannot be loaded.
    """
    if load_config(backbone, recipe.model).is_encoder_decoder:
        raise TrainingError(
            f"The backbone {backbone} is an encoder-decoder, and {method} trains decoder-only models: use "
            "`sawyer train ppo`, which trains both."
        )
    set_seed(recipe.seed)  # a fresh adapter's first factor is random
    policy = Policy.load(backbone, {"sft": start} if start else {}, spec=recipe.model)
    if start:
        check_made_for(start, policy, backbone)
    policy.add_adapter(STAGE, recipe.lora, copy_of="sft" if start else None)
    if start:
        with policy.using(STAGE):  # PEFT warns of deleting the active adapter
            policy.drop_adapter("sft")
    if isinstance(policy.model.get_output_embeddings(), BaseTunerLayer):
        raise RecipeError(
            f"lora.target {recipe.lora.target!r} adapts the output layer, which {method} would leave untrained: name "
            "other modules, or all-linear."
        )
    return policy


def learn(plan: PreferencePlan, run: Run, policy: Policy, rows: PreferenceRows, *, title: str | None = None) -> None:
    """Train ``rlf`` on ``rows`` to the end; figures, samples and checkpoints go to ``run``."""
    dtype = compute_dtype(run.recipe.model, policy.device)
    with nullcontext() if plan.method == "orpo" else reference_of(policy):
        trainer: Any = make_trainer(plan, run, policy, rows, dtype)
    reporter = Reporter(
        run,
        tokens=lambda: trainer.tokens,
        evaluate=trainer.held_out,
        sample=lambda: greedy_samples(policy, STAGE, rows.asked()),
        sample_every=plan.spec.sample_every,
        title=title or plan.method,
        names=NAMES,
    )
    trainer.add_callback(reporter)
    try:
        with policy.using(STAGE, train=True):
            trainer.fit()
    finally:
        reporter.close()


def finish(run: Run, policy: Policy, **told: Any) -> Path:
    """Write the adapter and, last, the manifest with the run's newest figures; returns the adapter's folder."""
    with run.output("adapter") as folder:
        policy.save_adapter(STAGE, folder)
    figures = {key: value for row in run.metrics() for key, value in row.items() if key not in ("step", "time")}
    steps = max((int(row["step"]) for row in run.metrics()), default=0)
    run.finish(run.folder / "adapter", steps=steps, figures=figures, **told)
    return run.folder / "adapter"
