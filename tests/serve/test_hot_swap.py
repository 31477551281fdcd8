"""Promoted versions are served without a restart, running rows keep theirs, older ones can be asked by name."""

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from sawyer.errors import SawyerError
from sawyer.generation import generate
from sawyer.home import Home
from sawyer.models import Policy
from sawyer.recipe import LoraSpec
from sawyer.registry import Registry
from sawyer.types import Sampling
from serve.app import build_app, catalog_of, load_policy
from serve.engine import Delta, Failed, Job
from serve.errors import ApiError
from serve.local import watch
from serve.local.catalog import Catalog
from serve.local.engine import LocalEngine
from tests.serve import tiny
from tests.serve.live import serving
from tests.serve.test_app import served_recipe
from tests.serve.test_openai_api import wait_for

QUESTION = [{"role": "user", "content": "tea river quiet"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three stages and two later rlf adapters."""
    folder = tmp_path_factory.mktemp("made")
    stages = tiny.make_stages(folder)
    policy = tiny.load(stages)
    for number in (2, 3):
        policy.add_adapter(f"rlf{number}", LoraSpec(r=4 + number, alpha=8))
        torch.manual_seed(10 * number)
        for parameter in policy.parameters_of(f"rlf{number}"):
            torch.nn.init.normal_(parameter, std=0.3)
        policy.save_adapter(f"rlf{number}", folder / f"rlf{number}")
        stages[f"rlf{number}"] = folder / f"rlf{number}"
    return stages


@pytest.fixture
def registry(made: dict[str, Path], sawyer_home: Path) -> Registry:
    registry = Registry.of(served_recipe(), Home(sawyer_home).ensure())
    for stage in ("base", "sft", "rlf"):
        registry.register(stage, made[stage], info={})
        registry.promote(f"{stage}@1")
    return registry


@pytest.fixture
def engine(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.05)
    recipe = served_recipe()
    engine = LocalEngine(lambda: load_policy(recipe, registry), context=96, catalog=catalog_of(recipe, registry))
    engine.start()
    wait_for(lambda: engine.status()[0] == "ok")
    yield engine
    engine.close()


def job(version: str | None = None, tokens: int = 24, stage: str = "rlf") -> Job:
    return Job(stage, QUESTION, Sampling(max_tokens=tokens, temperature=0, top_p=1, seed=1), version=version)


def ask(engine: LocalEngine, *jobs: Job) -> list[str]:
    async def collect() -> list[str]:
        texts = [""] * len(jobs)
        async for event in engine.submit(await engine.prepare(jobs)):
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Delta):
                texts[event.row] += event.text
        return texts

    return asyncio.run(collect())


def expected(made: dict[str, Path], name: str, tokens: int = 24) -> str:
    policy = Policy.load(made["base"], {"rlf": made[name]}, spec=tiny.SPEC, device="cpu")
    ids, stop = policy.chat.encode_prompt(QUESTION, "rlf"), policy.chat.stop_strings("rlf")
    return generate(policy, [ids], stage="rlf", max_tokens=tokens, temperature=0.0, stop=stop)[0].text


def test_promote_and_rollback_are_served_without_a_restart(engine, registry, made):
    assert ask(engine, job()) == [expected(made, "rlf")]
    registry.register("rlf", made["rlf2"], info={})
    wait_for(lambda: "rlf@2" in engine.refs)
    assert engine.versions["rlf"] == "rlf@1", "known, not promoted"
    registry.promote("rlf@2")
    wait_for(lambda: engine.versions["rlf"] == "rlf@2")
    assert ask(engine, job(), job("rlf@1"), job("rlf@2")) == [expected(made, name) for name in ("rlf2", "rlf", "rlf2")]
    registry.rollback("rlf")
    wait_for(lambda: engine.versions["rlf"] == "rlf@1")
    assert ask(engine, job()) == [expected(made, "rlf")]
    assert len({expected(made, name) for name in ("rlf", "rlf2", "rlf3")}) == 3


def test_a_version_that_was_never_current_is_loaded_when_it_is_asked(engine, registry, made):
    for number in (2, 3):
        registry.register("rlf", made[f"rlf{number}"], info={})
    wait_for(lambda: "rlf@3" in engine.refs)
    assert list(engine.refs) == ["base@1", "sft@1", "rlf@1", "rlf@2", "rlf@3"]
    assert ask(engine, job("rlf@3"), job(), job("rlf@2")) == [expected(made, name) for name in ("rlf3", "rlf", "rlf2")]
    with pytest.raises(ApiError) as refused:
        ask(engine, job("rlf@9"))
    assert refused.value.status == 404 and "rlf@3" in str(refused.value)


def test_a_running_reply_ends_with_the_version_it_began_with(engine, registry, made):
    registry.register("rlf", made["rlf2"], info={})
    text, versions = "", set()

    async def follow() -> None:
        nonlocal text
        prepared = await engine.prepare([job(tokens=60)])
        assert prepared[0].version == "rlf@1"
        async for event in engine.submit(prepared):
            if isinstance(event, Delta):
                if not text:
                    await asyncio.to_thread(registry.promote, "rlf@2")
                text += event.text
                versions.add(engine.versions["rlf"])

    slow = engine._decoders[id(engine._loaded.policy)].step
    gate = threading.Event()

    def step() -> None:
        gate.wait(0.02)
        slow()

    engine._decoders[id(engine._loaded.policy)].step = step
    asyncio.run(follow())
    wait_for(lambda: engine.versions["rlf"] == "rlf@2")
    assert text == expected(made, "rlf", 60)


def test_a_new_base_is_loaded_beside_the_old_one(engine, registry, made, tmp_path):
    other = tiny.make_stages(tmp_path / "other")
    from tests.train.makers import make_backbone

    shutil.rmtree(other["base"])
    make_backbone(other["base"], seed=8)
    registry.register("base", other["base"], info={})
    registry.promote("base@2")
    wait_for(lambda: engine.versions.get("base") == "base@2")
    before = generate(
        Policy.load(made["base"], spec=tiny.SPEC, device="cpu"),
        [[5, 6, 7]], stage="base", max_tokens=4, temperature=0.0,
    )  # fmt: skip
    assert before and engine.status() == ("ok", None)
    policy = Policy.load(other["base"], spec=tiny.SPEC, device="cpu")
    ids = policy.chat.encode_prompt(QUESTION, "base")
    wanted = generate(policy, [ids], stage="base", max_tokens=12, temperature=0.0, stop=["\nUser:", "\nAssistant:"])
    assert ask(engine, job(tokens=12, stage="base")) == [wanted[0].text]
    wait_for(lambda: len(engine._decoders) == 1)


def test_a_damaged_version_is_told_and_the_old_one_goes_on(engine, registry, made, caplog):
    version = registry.register("rlf", made["rlf2"], info={})
    wait_for(lambda: "rlf@2" in engine.refs)
    weights = version.path / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(ApiError) as refused:
        ask(engine, job("rlf@2"))
    assert refused.value.status == 503 and "rlf@2" in str(refused.value) and str(weights) not in str(refused.value)
    with pytest.raises(SawyerError):
        registry.promote("rlf@2")
    assert ask(engine, job()) == [expected(made, "rlf")]


def test_a_registry_that_cannot_be_read_is_told_and_promotions_go_on_afterwards(engine, registry, made, monkeypatch):
    def unreadable(_catalog: Catalog) -> tuple[int, ...]:
        raise PermissionError("not yours")

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "stamp", unreadable)
        wait_for(lambda: "not served" in (engine.status()[1] or ""))
        assert ask(engine, job()) == [expected(made, "rlf")]
    wait_for(lambda: engine.status() == ("ok", None))
    registry.promote(registry.register("rlf", made["rlf2"], info={}).ref)
    wait_for(lambda: engine.versions["rlf"] == "rlf@2")


def test_an_adapter_that_is_more_than_lora_is_refused_while_others_are_served(engine, registry, made, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for number, options in enumerate(({"modules_to_save": ["norm"]}, {"use_dora": True})):
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **options)
        folder = tmp_path / f"more{number}"
        get_peft_model(AutoModelForCausalLM.from_pretrained(made["base"]), config).save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        version = registry.register("rlf", folder, info={})
        wait_for(lambda ref=version.ref: ref in engine.refs)
        with pytest.raises(AssertionError, match="cannot be served"):
            ask(engine, job(version.ref))
        registry.promote(version.ref)
        wait_for(lambda: engine.status()[1] is not None)
        assert engine.status()[0] == "ok" and "rlf@1" in engine.status()[1]
        assert engine.versions["rlf"] == "rlf@1" and ask(engine, job()) == [expected(made, "rlf")]
        registry.rollback("rlf")
        wait_for(lambda: engine.status()[1] is None)


def test_versions_are_addressed_over_http(registry, made, sawyer_home, monkeypatch):
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "off")
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.05)
    registry.register("rlf", made["rlf2"], info={})
    with serving(build_app(served_recipe(), Home(sawyer_home))) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, 30)
        wait_for(lambda: "sawyer-rlf@2" in httpx.get(f"{url}/v1/models").text)

        def say(model: str) -> str:
            body = {"model": model, "messages": QUESTION, "max_tokens": 24, "temperature": 0}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
            return json.loads(answer.text)["choices"][0]["message"]["content"]

        assert [say("sawyer-rlf"), say("sawyer-rlf@2")] == [expected(made, "rlf"), expected(made, "rlf2")]
        registry.promote("rlf@2")
        wait_for(lambda: httpx.get(f"{url}/v1/models/sawyer-rlf").json()["root"] == "sawyer-rlf@2")
        assert say("sawyer-rlf") == expected(made, "rlf2")
