"""What is exported is what TRL's trainers take: one step each, unchanged, on a tiny model."""

from pathlib import Path

import pytest

from sawyer.store import FeedbackStore
from sawyer.store.export import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, Path]:
    """One file a format, of a few votes."""
    folder = tmp_path_factory.mktemp("exports")
    with FeedbackStore.open(f"sqlite:///{folder / 'sawyer.db'}") as store:
        for number in range(4):
            turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": f"Say {number}"}])
            answers = [
                store.add_completion(turn, stage, prompt_text="", text=f"{stage} {number}", tokens=2)
                for stage in ("base", "sft", "rlf")
            ]
            store.add_vote(turn, "rlf", "ada", edited=f"Here is {number}.")
            store.add_rating(answers[0], False, "ada")
            store.add_rating(answers[2], True, "ada")
        files = {form: folder / f"{form}.{suffix}" for form, suffix in
                 (("preference", "jsonl"), ("kto", "parquet"), ("sft", "jsonl"))}  # fmt: skip
        for form, file in files.items():
            export(store, file, form)
    return files


@pytest.mark.slow
@pytest.mark.parametrize("method", ["DPO", "KTO", "Reward", "SFT"])
def test_a_trainer_of_trl_takes_a_step(method, exported, tiny_backbone, tmp_path):
    import datasets
    import torch
    import trl
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    form = {"DPO": "preference", "Reward": "preference", "KTO": "kto", "SFT": "sft"}[method]
    file = exported[form]
    reader = "json" if file.suffix == ".jsonl" else "parquet"
    rows = datasets.load_dataset(reader, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    settings = {"output_dir": str(tmp_path), "max_steps": 1, "per_device_train_batch_size": 2, "report_to": "none",
                "use_cpu": True, "bf16": False, "save_strategy": "no"}  # fmt: skip
    if method == "Reward":
        model = AutoModelForSequenceClassification.from_pretrained(tiny_backbone, num_labels=1, dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(tiny_backbone, dtype=torch.float32)
    trainer = getattr(trl, f"{method}Trainer")(
        model=model,
        args=getattr(trl, f"{method}Config")(**settings),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(tiny_backbone),
    )
    loss = trainer.train().training_loss
    assert trainer.state.global_step == 1 and loss == loss and len(trainer.train_dataset) == len(rows)
