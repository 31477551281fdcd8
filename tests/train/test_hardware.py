"""What hardware may lack: bfloat16, a library for quantised weights, memory. And the author's own checkpoints."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from sawyer.backbone import load_backbone
from sawyer.compute import compute_dtype
from sawyer.data import load_pairs
from sawyer.errors import ModelError, TrainingError
from sawyer.generation import generate
from sawyer.models import Policy
from sawyer.recipe import DataSource, ModelSpec, load_recipe
from sawyer.runs import Run
from tests.train.makers import make_backbone, pairs, prompts_in, recipe, write_lines
from train.ppo import train_ppo
from train.reward_model import RewardTrainer, train_reward

CUDA = torch.device("cuda")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


def ppo_recipe(backbone: Path, prompts: str, *, dtype: str = "float32", **changes: Any) -> Any:
    section = {"prompts": [{"name": prompts}], "reward": [{"length": {"target": 3}}], "steps": 2, "batch_size": 4,
               "minibatch_size": 4, "micro_batch": 2, "epochs": 2, "max_prompt": 48, "max_new_tokens": 8,
               "normalize_samples": 8, "held_out": 0.3, "watch": False, "target_kl": None, "lr": 1e-3}  # fmt: skip
    model = {"backbone": str(backbone), "context": 96, "dtype": dtype}
    return recipe(backbone, ppo=section | changes, model=model)


def run_ppo(asked: Any, folder: Path) -> list[dict[str, float]]:
    with Run(folder / "run", step="ppo", recipe=asked) as run:
        train_ppo(asked, run, asked.model.backbone, None, None)
        return run.metrics()


def test_a_gpu_without_bfloat16_computes_in_float16() -> None:
    """A T4 computes bfloat16 in software, which torch counts as support unless told otherwise."""
    emulated = mock.patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    with emulated:
        assert compute_dtype(ModelSpec(), CUDA) == torch.float16
    with mock.patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: True):
        assert compute_dtype(ModelSpec(), CUDA) == torch.bfloat16


def test_a_bfloat16_checkpoint_is_held_in_float16_where_the_gpu_has_no_bfloat16() -> None:
    asked: dict[str, Any] = {}

    def stop(name: str, **options: Any) -> None:
        asked.update(options)
        raise OSError("far enough")

    config = LlamaConfig(dtype="bfloat16")
    lacking = mock.patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    with lacking, mock.patch.object(AutoModelForCausalLM, "from_pretrained", stop), pytest.raises(ModelError):
        load_backbone("some/model", config, ModelSpec(), CUDA)
    assert asked["dtype"] == torch.float16


def test_bitsandbytes_that_is_of_no_use_here() -> None:
    spec, config = ModelSpec(quantization="nf4"), LlamaConfig()
    with pytest.raises(ModelError, match=r"does not run on mps.*set model\.quantization to none"):
        load_backbone("some/model", config, spec, torch.device("mps"))
    with (
        mock.patch.dict("sys.modules", {"bitsandbytes.cextension": None}),
        pytest.raises(ModelError, match=r"cannot be imported here.*set model\.quantization to none"),
    ):
        load_backbone("some/model", config, spec, torch.device("cpu"))

    class ErrorHandlerMockBNBNativeLibrary:
        """As bitsandbytes calls what stands in for a library that it did not find."""

    with (
        mock.patch("bitsandbytes.cextension.lib", ErrorHandlerMockBNBNativeLibrary()),
        pytest.raises(ModelError, match=r"whose library for this GPU is missing"),
    ):
        load_backbone("some/model", config, spec, CUDA)


@pytest.mark.parametrize(
    ("place", "keys"),
    [("train.ppo.loop.collect", ("ppo.batch_size", "ppo.max_new_tokens")),
     ("train.ppo.loop.Learner.step", ("ppo.micro_batch", "ppo.gradient_checkpointing"))],
)  # fmt: skip
def test_ppo_out_of_memory_names_the_key(backbone: Path, tmp_path: Path, place: str, keys: tuple[str, ...]) -> None:
    with (
        prompts_in(tmp_path) as prompts,
        mock.patch(place, side_effect=FULL),
        pytest.raises(TrainingError, match="memory does not suffice") as caught,
    ):
        run_ppo(ppo_recipe(backbone, prompts), tmp_path)
    for key in (*keys, "--resume", "sawyer plan test"):
        assert key in str(caught.value)


def test_reward_out_of_memory_names_the_key(tiny_classifier: Path, backbone: Path, tmp_path: Path) -> None:
    source = {"name": write_lines(tmp_path / "pairs.jsonl", pairs(40))}
    asked = recipe(backbone, reward={"model": str(tiny_classifier), "sources": [source], "max_length": 48})
    with (
        Run(tmp_path / "run", step="reward", recipe=asked) as run,
        mock.patch.object(RewardTrainer, "compute_loss", side_effect=FULL),
        pytest.raises(TrainingError, match=r"lower reward\.batch_size, or shorten reward\.max_length"),
    ):
        train_reward(asked, run)


def test_ppo_in_float16_scales_its_loss(backbone: Path, tmp_path: Path) -> None:
    with prompts_in(tmp_path) as prompts:
        metrics = run_ppo(ppo_recipe(backbone, prompts, dtype="float16"), tmp_path)
    steps = [row for row in metrics if "policy/grad_norm" in row]
    assert len(steps) == 2 and all(row["policy/first_gap"] == 0 for row in steps[:1])
    assert any(0 < row["policy/grad_norm"] < 1e4 for row in steps)


# The reference's markers


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the author published them: the markers are tokens of its vocabulary, there is no chat template,
    and no padding token.
    """
    folder = make_backbone(tmp_path_factory.mktemp("marked"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["###HUMAN###", "###BOT###", "###STOP###"]})
    tokenizer.chat_template, tokenizer.pad_token = None, None
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_authors_markers_are_tokens_where_the_checkpoint_has_them(marked: Path) -> None:
    chat = load_recipe("llama2-7b-reference").model.chat
    policy = Policy.load(marked, spec=ModelSpec(backbone=str(marked), context=96, dtype="float32", chat=chat))
    ids = {text: policy.tokenizer.convert_tokens_to_ids(text) for text in ("###HUMAN###", "###BOT###", "###STOP###")}
    prompt = policy.chat.encode_prompt([{"role": "user", "content": "tea ###STOP### river"}], "rlf")
    assert prompt.count(ids["###HUMAN###"]) == prompt.count(ids["###BOT###"]) == 1
    assert ids["###STOP###"] not in prompt, "what a user writes is no control token"
    told, learnt = policy.chat.encode_conversation(
        [{"role": "user", "content": "tea"}, {"role": "assistant", "content": "bread"}]
    )
    stop = told.index(ids["###STOP###"])
    assert learnt[stop] == 1, "the reply's end is learnt"
    with torch.no_grad():  # whatever is asked, the stop marker is by far the likeliest token
        head = policy.model.get_output_embeddings()
        head.weight.zero_()
        head.register_forward_hook(lambda _, __, out: out.index_fill(-1, torch.tensor([ids["###STOP###"]]), 50.0))
    made = generate(policy, [prompt], stage="base", max_tokens=6, stop=policy.chat.stop_strings("rlf"))[0]
    assert made.finished and made.text == "" and len(made.ids) == 1


def test_gpt4_comparisons_as_the_reference_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = [
        {"response": "Assam.", "source": "gpt4", "score": 9.0},
        {"response": "No.", "source": "opt", "score": 2.0},
    ]
    record = {"user_input": "Name a tea.", "responses_and_scores": scored}
    (tmp_path / "comparison_data_v2.json").write_text(json.dumps([record]), encoding="utf-8")
    monkeypatch.setenv("SAWYER_DATA", str(tmp_path))
    source = load_recipe("llama2-7b-reference").reward.sources[0]  # type: ignore[union-attr]
    assert isinstance(source, DataSource)
    pair = load_pairs([source], 0)[0]
    assert (pair.prompt[-1]["content"], pair.chosen, pair.rejected) == ("Name a tea.", "Assam.", "No.")
