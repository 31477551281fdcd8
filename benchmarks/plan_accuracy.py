"""What `sawyer plan` predicts against what is measured, on a CPU, with random checkpoints of several sizes.

    python benchmarks/plan_accuracy.py               # every stage, 17 M to 350 M weights; --json for one JSON object
    python benchmarks/plan_accuracy.py --only sft serve --sizes 17m 135m

Each measurement is a process of its own that runs the project's own stage (``plan_worker``) on rows as long as the
recipe allows, forked from one that has done the same on a model of some thousand weights, so that what libraries make
once is not counted. The figure is the peak of the resident size above that. glibc is told to map every large tensor by
itself and to give it back at once: otherwise the peak is that of its gaps. Exit code 1 when a prediction is off by more
than 10 %.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sawyer.plan import make_plan, this_cpu
from sawyer.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "sawyer" / "assets" / "nano"
MIB = 2**20
ALLOWED = 0.1
BACKBONES: dict[str, dict[str, Any]] = {
    "warm": {"vocab_size": 8192, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 64},
    "17m": {"vocab_size": 8192, "hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6,
            "intermediate_size": 1024},
    "60m": {"vocab_size": 32000, "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8,
            "intermediate_size": 1408},
    "135m": {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "intermediate_size": 1536},
    "350m": {"vocab_size": 32000, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
             "intermediate_size": 2816},
}  # fmt: skip
REWARDS: dict[str, dict[str, Any]] = {
    "warm": {"vocab_size": 8192, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 64},
    "30m": {"vocab_size": 16384, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
            "intermediate_size": 2048},
    "125m": {"vocab_size": 50265},
}  # fmt: skip
RECIPE = """
name: accuracy
threads: 1
model: {context: 256}
lora: {r: 16, alpha: 32}
sft: {sources: [{name: x}], batch_size: 4, micro_batch: 4, max_length: 128, epochs: 1, held_out: 0, save_every: 1000}
reward: {sources: [{name: x}], batch_size: 4, max_length: 128, held_out: 0, save_every: 1000}
ppo: {prompts: [{name: x}], steps: 1, batch_size: 4, minibatch_size: 4, micro_batch: 4, epochs: 1, max_prompt: 64,
      max_new_tokens: 48, normalize_samples: 4, held_out: 0, watch: false, target_kl: null}
serve: {max_tokens: 8, max_rows: 6}
"""


@dataclass(frozen=True)
class Case:
    """A stage, the backbone and the reward model that it runs on."""

    stage: str
    backbone: str
    reward: str

    @property
    def size(self) -> str:
        """Of what the stage trains or serves."""
        return self.reward if self.stage == "reward" else self.backbone


CASES = (
    *(Case("sft", size, "warm") for size in ("17m", "60m", "135m", "350m")),
    *(
        Case("ppo", size, reward)
        for size, reward in (("17m", "warm"), ("60m", "30m"), ("135m", "warm"), ("350m", "warm"))
    ),
    *(Case("reward", "warm", size) for size in ("30m", "125m")),
    *(Case("serve", size, "warm") for size in ("17m", "60m", "135m", "350m")),
)


def make_checkpoints(folder: Path, cases: list[Case]) -> None:
    """Random weights of the true shapes, with the nano model's tokenizers."""
    wanted = {"warm"} | {case.backbone for case in cases}, {"warm"} | {case.reward for case in cases}
    for names, shapes, kind in ((wanted[0], BACKBONES, "base"), (wanted[1], REWARDS, "reward")):
        for name in names:
            _save(folder / kind / name, shapes[name], reward=kind == "reward")
            for file in (NANO / kind).glob("token*"):
                shutil.copy(file, folder / kind / name / file.name)


def _save(folder: Path, shape: dict[str, Any], *, reward: bool) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    if reward:
        config = RobertaConfig(**shape, **ids, max_position_embeddings=514, num_labels=1)
        RobertaForSequenceClassification(config).save_pretrained(folder)
    else:
        llama = LlamaConfig(**shape, **ids, max_position_embeddings=1024, tie_word_embeddings=True)
        LlamaForCausalLM(llama).save_pretrained(folder)


def recipe_for(case: Case, folder: Path) -> Recipe:
    """The recipe of a case, its models being the folder's."""
    file = folder / "recipe.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    overrides = [f"model.backbone={folder / 'base' / case.backbone}", f"reward.model={folder / 'reward' / case.reward}"]
    if case.stage == "ppo":  # from the backbone itself: the worker trains no SFT before
        overrides.append("sft=null")
    return load_recipe(file, overrides)


def predicted(case: Case, folder: Path) -> dict[str, float]:
    """The plan's peak in MiB, and its parts."""
    recipe = recipe_for(case, folder)
    plan = make_plan(recipe, this_cpu())
    ledger = next(stage.ledger for stage in plan.stages if stage.stage == case.stage)
    return {"peak_mib": ledger.peak / MIB, "moment": ledger.worst.name,
            **{f"{item.name}_mib": item.size / MIB for item in ledger.items}}  # fmt: skip


def measured(cases: list[Case], folder: Path) -> list[dict[str, float]]:
    """What the worker reports of each case."""
    from sawyer.recipe import save_resolved

    lines = []
    for number, case in enumerate(cases):
        file = folder / f"recipe-{number}.yaml"
        save_resolved(recipe_for(case, folder), file)
        lines.append({"stage": case.stage, "recipe": str(file), "backbone": str(folder / "base" / case.backbone),
                      "reward": str(folder / "reward" / case.reward)})  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.plan_worker", str(folder)]
    log, asked, told = folder / "worker.log", folder / "cases.jsonl", []
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with (
        asked.open(encoding="utf-8") as given,
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdin=given, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as worker,
    ):
        assert worker.stdout is not None
        for case, line in zip(cases, worker.stdout, strict=False):
            told.append(json.loads(line))
            print(f"{case.stage} {case.size}: {told[-1]['peak_mib']:.0f} MiB", file=sys.stderr, flush=True)
    if worker.returncode or len(told) < len(cases):
        raise SystemExit(f"The worker ended early:\n{log.read_text(encoding='utf-8')[-3000:]}")
    return told


def _environment() -> dict[str, str]:
    faithful = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    return os.environ | faithful | quiet | {"PYTHONPATH": str(ROOT), "SAWYER_COMPILE": "0"}


def compare(cases: list[Case], folder: Path) -> dict[str, Any]:
    """All cases, one after the other."""
    make_checkpoints(folder, cases)
    rows = []
    for case, found in zip(cases, measured(cases, folder), strict=True):
        told = predicted(case, folder)
        rows.append({"stage": case.stage, "size": case.size, "predicted": told, "measured": found,
                     "predicted_over_measured": told["peak_mib"] / found["peak_mib"]})  # fmt: skip
    worst = max(abs(row["predicted_over_measured"] - 1) for row in rows)
    return {"cases": rows, "largest_error": worst, "allowed": ALLOWED, "within": worst <= ALLOWED}


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Peak memory above the imports, MiB")
    for heading in ("stage", "weights", "predicted", "measured", "predicted / measured", "peak in"):
        table.add_column(heading)
    for row in result["cases"]:
        told = row["predicted"]
        table.add_row(row["stage"], row["size"], f"{told['peak_mib']:.0f}", f"{row['measured']['peak_mib']:.0f}",
                      f"{row['predicted_over_measured']:.3f}", told["moment"])  # fmt: skip
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("sft", "ppo", "reward", "serve"), help="these stages alone")
    parser.add_argument("--sizes", nargs="+", help="these sizes alone, such as 17m 125m")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    given = parser.parse_args()
    cases = [case for case in CASES if (not given.only or case.stage in given.only)
             and (not given.sizes or case.size in given.sizes)]  # fmt: skip
    if not cases:
        parser.error("no case has this stage and size")
    with tempfile.TemporaryDirectory(prefix="sawyer-plan-") as folder:
        result = compare(cases, Path(folder))
    if given.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if result["within"] else 1


if __name__ == "__main__":
    sys.exit(main())
