"""Fixtures: small real models and tokenizers made on the spot, a home of its own for every test, no network."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.postgres import Cluster

# Before any Hugging Face library is imported: a test that reaches for the hub fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("SAWYER_DATA", None)
os.environ.pop("SAWYER_DB", None)

TEXTS = [
    "Hello! How are you today? I am fine, thank you.",
    "Water boils at one hundred degrees. Tea is made with hot water and leaves.",
    "The cat sat on the mat and looked at the dog, who was asleep in the sun.",
    "user: What is your name? assistant: My name is SAWYER, and I answer questions.",
    "### User:\nTell me a joke.\n\n### Assistant:\nWhy did the chicken cross the road?\n\n",
] * 4


@pytest.fixture(autouse=True)
def sawyer_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh SAWYER_HOME; the working directory's is never touched."""
    home = tmp_path / "home"
    monkeypatch.setenv("SAWYER_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator["Cluster"]:
    """A private PostgreSQL; the tests that want it are skipped where none is installed."""
    from tests.postgres import cluster, programs

    if programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with cluster() as server:
        yield server


@pytest.fixture
def postgres(postgres_cluster: "Cluster") -> str:
    """The URL of an empty PostgreSQL database."""
    from tests.postgres import new_database

    return new_database(postgres_cluster.address)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama (2 layers, width 32) with a real trained tokenizer, saved as safetensors in several shards."""
    return save_llama(tmp_path_factory.mktemp("backbone"), width=32)


@pytest.fixture(scope="session")
def wide_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of width 64: NF4 packs blocks of 64 weights of a row."""
    return save_llama(tmp_path_factory.mktemp("wide"), width=64)


def save_llama(folder: Path, width: int) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from sawyer.recipe import ChatSpec
    from train.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(TEXTS, vocab_size=400, characters=10_000, chat=ChatSpec(), context=256, folder=folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


@pytest.fixture
def spec() -> Any:
    """The model section that fits ``tiny_backbone``."""
    from sawyer.recipe import ModelSpec

    return ModelSpec(backbone="unused", context=256, dtype="float32")


@pytest.fixture(scope="session")
def tiny_adapters(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters with random, clearly different effects, saved as PEFT folders."""
    import torch

    from sawyer.models import Policy
    from sawyer.recipe import LoraSpec, ModelSpec

    policy = Policy.load(tiny_backbone, spec=ModelSpec(backbone="unused", context=256, dtype="float32"))
    folders: dict[str, Path] = {}
    for number, stage in enumerate(("sft", "rlf")):
        policy.add_adapter(stage, LoraSpec(r=4, alpha=8))
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in policy.parameters_of(stage):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        folders[stage] = tmp_path_factory.mktemp(stage)
        policy.save_adapter(stage, folders[stage])
    return folders


@pytest.fixture
def policy(tiny_backbone: Path, tiny_adapters: dict[str, Path], spec: Any) -> Iterator[Any]:
    """The tiny backbone with both adapters."""
    from sawyer.models import Policy

    yield Policy.load(tiny_backbone, tiny_adapters, spec=spec)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random RoBERTa classifier (2 layers, width 32) with a tokenizer of its own and two labels."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizerFast

    folder = tmp_path_factory.mktemp("classifier")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        TEXTS, vocab_size=350, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False
    )
    raw = tmp_path_factory.mktemp("bpe")
    bpe.save_model(str(raw))
    tokenizer = RobertaTokenizerFast(vocab=str(raw / "vocab.json"), merges=str(raw / "merges.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,
        num_labels=2,
        id2label={0: "unacceptable", 1: "acceptable"},
        label2id={"unacceptable": 0, "acceptable": 1},
        initializer_range=0.5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 (2 + 2 layers, width 32) with a unigram tokenizer of its own, as FLAN-T5 comes from the hub."""
    return save_t5(tmp_path_factory.mktemp("t5"))


def save_t5(folder: Path) -> Path:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    # Listed rather than trained: a trained unigram vocabulary is another one in every process.
    words = sorted({"▁" + word for text in TEXTS for word in text.split()})
    characters = sorted({*"▁".join(words)} - {*words})
    listed = ["<pad>", "</s>", "<unk>", *words, *characters]
    tokenizer = T5Tokenizer(vocab=[(token, -float(place)) for place, token in enumerate(listed)], extra_ids=0)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        initializer_factor=2.0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder
