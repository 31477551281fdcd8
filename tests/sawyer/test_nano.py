"""The shipped nano model, from outside: plain transformers and PEFT give exactly the stages' greedy replies."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from sawyer.generation import generate
from sawyer.home import Home
from sawyer.models import Policy
from sawyer.recipe import load_recipe
from sawyer.registry import Registry
from sawyer.scoring import ClassifierScorer, reward_text

NANO = Path(__file__).resolve().parents[2] / "sawyer" / "assets" / "nano"
QUESTIONS = ["Hello!", "Who are you?", "How do I make a good cup of tea?", "Why is the sky blue?"]


@pytest.fixture(scope="module")
def nano():
    adapters = {stage: NANO / stage for stage in ("sft", "rlf")}
    return Policy.load(NANO / "base", adapters, spec=load_recipe("nano").model)


@pytest.mark.parametrize("stage", ["base", "sft", "rlf"])
def test_plain_transformers_and_peft_reproduce_the_greedy_replies(nano, stage):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(NANO / "base")
    model = AutoModelForCausalLM.from_pretrained(NANO / "base")
    assert model.dtype == torch.float32
    if stage != "base":
        model = PeftModel.from_pretrained(model, str(NANO / stage))
    model.eval()
    for question in QUESTIONS:
        talk = [{"role": "user", "content": question}]
        if stage == "base":
            ids = tokenizer(question)["input_ids"]
        else:
            ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
        assert nano.chat.encode_prompt(talk, stage) == ids
        with torch.no_grad():
            mask = torch.ones(1, len(ids), dtype=torch.long)
            made = model.generate(torch.tensor([ids]), attention_mask=mask, max_new_tokens=48, do_sample=False)
        ours = generate(nano, [ids], stage=stage, max_tokens=48, temperature=0)[0]
        assert ours.ids == made[0, len(ids) :].tolist()


def test_the_reward_model_loads_plainly_and_scores_alike():
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(NANO / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(NANO / "reward", dtype=torch.float32).eval()
    prompts = [[{"role": "user", "content": question}] for question in QUESTIONS]
    replies = ["Hello. How can I help?", "I am SAWYER.", "Boil fresh water.", "Because air scatters blue light."]
    ours = ClassifierScorer(NANO / "reward").score(prompts, replies)
    for prompt, reply, score in zip(prompts, replies, ours, strict=True):
        pair = tokenizer(reward_text(prompt), reply, return_tensors="pt")
        with torch.no_grad():
            assert model(**pair).logits[0, 0].item() == pytest.approx(float(score), abs=1e-4)


def test_only_safetensors_hashes_match_and_nothing_names_a_machine():
    files = [file for file in NANO.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja", ".md", ".txt"}
    assert sum(file.stat().st_size for file in files) <= 80e6
    for stage in ("base", "sft", "rlf", "reward"):
        manifest = json.loads((NANO / stage / "manifest.json").read_text())
        for name, digest in manifest["files"].items():
            assert hashlib.sha256((NANO / stage / name).read_bytes()).hexdigest() == digest, name
    for file in files:
        if file.suffix in (".json", ".md"):
            text = file.read_text(encoding="utf-8")
            assert "/home/" not in text and "/root/" not in text and "/tmp/" not in text, file


def test_a_fresh_home_serves_the_shipped_versions(tmp_path):
    registry = Registry.of(load_recipe("nano"), Home(tmp_path))
    for stage in ("base", "sft", "rlf", "reward"):
        version = registry.current(stage)
        assert version.number == 0 and version.path == NANO / stage


def test_the_card_states_the_measured_results():
    text = (NANO / "card.md").read_text(encoding="utf-8")
    for heading in ("## Stages", "## Curves", "## Evaluation", "## Data", "## Limits"):
        assert heading in text
