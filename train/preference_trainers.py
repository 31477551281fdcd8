"""TRL's DPO, KTO and ORPO trainers on rows that are tokenised already, made exact as SAWYER's own trainers are.

By itself TRL would tokenise texts in its own way, cut them in mid-reply, write model cards and report each start to a
server. The methods overridden for that are private to TRL: those of 1.16, where DPO and KTO are stable and ORPO lives
in ``trl.experimental``.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from torch.utils.data import Sampler, SequentialSampler
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from sawyer.recipe import PreferencePlan
from sawyer.runs import Run
from train.preference_data import PairIds, PreferenceRows, RatedIds
from train.sft_data import IGNORED
from train.trainer import Exact, LengthBuckets, training_arguments

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that its interface may change is known: TRL is pinned
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

# TRL's name of a figure -> ours. Its "rewards" are beta times the log-ratio of policy and reference (ORPO: beta times
# the mean log-probability), not what PPO is rewarded by.
NAMES = {
    "rewards/chosen": "implicit/chosen",
    "rewards/rejected": "implicit/rejected",
    "rewards/margins": "implicit/margin",
    "rewards/accuracies": "implicit/accuracy",
    "logps/chosen": "logps/chosen",
    "logps/rejected": "logps/rejected",
    "entropy": "policy/entropy",
    "kl": "kto/kl",
    "nll_loss": "orpo/nll",
    "log_odds_chosen": "orpo/log_odds",
}


class GivenReplies(Exact):
    """What the three have in common, mixed in before TRL's class."""

    def held_out(self) -> dict[str, float]:
        """Loss and figures of the held-out rows; nothing without them."""
        if self.eval_dataset is None:
            return {}
        found = self.evaluate()
        names = {f"eval_{theirs}": f"heldout/{ours}" for theirs, ours in NAMES.items()} | {"eval_loss": "heldout/loss"}
        return {ours: float(found[theirs]) for theirs, ours in names.items() if theirs in found}

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _compute_loss(self, *args: Any) -> Any:
        with self.precision():
            return super()._compute_loss(*args)

    def _send_telemetry(self) -> None:
        """Nothing is reported to anybody."""


class DpoRun(GivenReplies, DPOTrainer):
    """DPO (Rafailov et al. 2023); IPO (Azar et al. 2023) is one of its losses, and SPIN plays by it."""


class KtoRun(GivenReplies, KTOTrainer):
    """KTO (Ethayarajh et al. 2024). The order of the rows is fixed: each carries its neighbour's reply for the KL."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # type: ignore[override]
        return SequentialSampler(self.train_dataset)


class OrpoRun(GivenReplies, ORPOTrainer):
    """ORPO (Hong et al. 2024). As in TRL, the likelihood is that of the prompt's tokens too."""

    @staticmethod
    def tokenize_row(feature: dict[str, Any], model: Any = None) -> dict[str, list[int]]:
        """TRL's columns of a row of ids."""
        row, prompt = {}, feature["prompt_ids"]
        for name in ("chosen", "rejected"):
            reply = feature[f"{name}_ids"]
            row[f"{name}_input_ids"] = prompt + reply
            row[f"{name}_attention_mask"] = [1] * len(prompt + reply)
            row[f"{name}_labels"] = [IGNORED] * len(prompt) + reply
        return row

    def get_batch_loss_metrics(self, *args: Any, **options: Any) -> Any:
        """The loss and its figures, in the recipe's precision."""
        with self.precision():
            return super().get_batch_loss_metrics(*args, **options)

    @staticmethod
    def get_batch_logps(logits: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        """Log-probabilities in float32: TRL takes them in the precision of the logits."""
        return ORPOTrainer.get_batch_logps(logits.float(), *args, **options)


TRAINERS: dict[str, type[GivenReplies]] = {
    "dpo": DpoRun, "ipo": DpoRun, "spin": DpoRun, "kto": KtoRun, "orpo": OrpoRun,
}  # fmt: skip


def dataset_of(plan: PreferencePlan, rows: Sequence[Any], seed: int) -> Dataset:
    """Rows as the method's trainer reads them."""
    if plan.method == "kto":
        return _rated_dataset(rows, plan.spec.micro_batch, seed)
    pairs: Sequence[PairIds] = rows
    columns: dict[str, list[Any]] = {
        "prompt_ids": [row.prompt for row in pairs],
        "chosen_ids": [row.chosen for row in pairs],
        "rejected_ids": [row.rejected for row in pairs],
    }
    if plan.method == "orpo":  # TRL looks for texts as well, but the policy never sees them
        columns |= {name: [""] * len(pairs) for name in ("prompt", "chosen", "rejected")}
    return Dataset.from_dict(columns)


def _rated_dataset(rows: Sequence[RatedIds], micro_batch: int, seed: int) -> Dataset:
    """Dealt into micro-batches of like length; in each, the replies moved on by one give the KL's mismatched pairs."""
    ordered = [rows[index] for index in LengthBuckets([row.length for row in rows], micro_batch, seed)]
    groups = [ordered[start : start + micro_batch] for start in range(0, len(ordered), micro_batch)]
    return Dataset.from_dict(
        {
            "prompt_ids": [row.prompt for row in ordered],
            "completion_ids": [row.reply for row in ordered],
            "KL_completion_ids": [group[place - 1].reply for group in groups for place in range(len(group))],
            "label": [row.rated.liked for row in ordered],
        }
    )


def configuration(plan: PreferencePlan, run: Run, device: torch.device, dtype: torch.dtype, context: int) -> Any:
    """TRL's configuration of a method, its optimiser and schedule those of SFT."""
    spec = plan.spec
    kind: Any = {"kto": KTOConfig, "orpo": ORPOConfig}.get(plan.method, DPOConfig)
    own: dict[str, Any] = {"max_length": None}  # rows that are too long were left out
    if plan.method == "kto":  # a mismatched prompt and reply may be longer than any row
        own = {
            "max_length": context,
            "desirable_weight": spec.desirable_weight,
            "undesirable_weight": spec.undesirable_weight,
        }
    elif plan.method == "orpo":
        own = {"max_length": context}
    elif plan.method == "ipo":
        own["loss_type"] = ["ipo"]
    return training_arguments(
        run,
        spec,
        device=device,
        dtype=dtype,
        micro_batch=spec.micro_batch,
        kind=kind,
        beta=spec.beta,
        optim=spec.optimizer,
        per_device_eval_batch_size=min(spec.micro_batch, spec.batch_size),
        gradient_checkpointing=spec.gradient_checkpointing,
        disable_dropout=True,
        bf16=False,  # precision is Exact's
        **own,
    )


def make_trainer(plan: PreferencePlan, run: Run, policy: Any, rows: PreferenceRows, dtype: torch.dtype) -> GivenReplies:
    """The method's trainer around ``rlf``; the reference of DPO and KTO is a frozen copy of it as it is now."""
    disable_progress_bars()  # TRL maps ORPO's rows six times
    return TRAINERS[plan.method](
        run=run,
        lengths=[row.length for row in rows.train],
        dtype=dtype,
        model=policy.model,
        args=configuration(plan, run, policy.device, dtype, policy.context),
        train_dataset=dataset_of(plan, rows.train, run.recipe.seed),
        eval_dataset=dataset_of(plan, rows.held_out, run.recipe.seed) if rows.held_out else None,
        processing_class=policy.tokenizer,
    )
