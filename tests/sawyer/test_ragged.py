"""Continuous batching: whatever else is in the batch, a row says what its stage says alone."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sawyer.errors import ModelError
from sawyer.generation import Row, generate, rows_of
from sawyer.models import Policy
from sawyer.ragged import Arrival, RaggedBatch, can_run_merged, can_run_ragged, generate_merged
from sawyer.ragged import batch as ragged_batch
from sawyer.recipe import LoraSpec, ModelSpec

CONTEXT = 96
STAGES = ("base", "sft", "rlf")
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SIZES | {"num_key_value_heads": 2}),
    "llama with biases": ("LlamaConfig", SIZES | {"attention_bias": True, "mlp_bias": True}),
    "llama scaled": ("LlamaConfig", SIZES | {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
    "mistral": ("MistralConfig", SIZES | {"num_key_value_heads": 1, "sliding_window": None}),
    "qwen2": ("Qwen2Config", SIZES | {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", SIZES | {"num_key_value_heads": 2, "head_dim": 16}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "gpt neox": ("GPTNeoXConfig", SIZES),
    "phi": ("PhiConfig", SIZES),
    "gemma": ("GemmaConfig", SIZES | {"num_key_value_heads": 2, "head_dim": 8}),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take longer than these models."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbones(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a random model of a family and the tokenizer of the tiny backbone."""
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = make_model(*FAMILIES[family], tiny_backbone, tmp_path_factory.mktemp("family"))
        return made[family]

    return of


def make_model(kind: str, options: dict[str, Any], tokenizer_of: Path, folder: Path) -> Path:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = getattr(transformers, kind)(
        vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, initializer_range=0.3, **special, **options
    )
    torch.manual_seed(5)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def policy_of(folder: Path, names: Sequence[str] = ("sft", "rlf"), seed: int = 1) -> Policy:
    """Random adapters of different ranks."""
    policy = Policy.load(folder, spec=ModelSpec(backbone=str(folder), context=CONTEXT), device="cpu")
    draw = torch.Generator().manual_seed(seed)
    for number, stage in enumerate(names):
        policy.add_adapter(stage, LoraSpec(r=3 + number, alpha=8))
        with torch.no_grad():
            for parameter in policy.parameters_of(stage):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draw))
    policy.model.eval()
    return policy


def crowd(count: int, seed: int = 0) -> list[Row]:
    """Rows of every stage, length and way of sampling."""
    draw = random.Random(seed)
    return [
        Row(
            prompt=[draw.randrange(10, 200) for _ in range(draw.choice((1, 3, 9, 30)))],
            stage=draw.choice(STAGES),
            max_tokens=draw.choice((1, 4, 20, 40)),
            temperature=draw.choice((0.0, 0.0, 1.0, 0.6)),
            top_p=draw.choice((1.0, 0.8)),
            seed=number,
        )
        for number in range(count)
    ]


def arrival(key: int, row: Row) -> Arrival:
    return Arrival(key, row, None if row.stage == "base" else row.stage)


def run(batch: RaggedBatch, rows: Sequence[Row], arrivals: random.Random | None = None) -> list[list[int]]:
    """The tokens of each row; with ``arrivals`` they come a few at a time while others are being decoded."""
    waiting, made = list(enumerate(rows)), [[] for _ in rows]  # type: list[tuple[int, Row]], list[list[int]]
    while waiting or batch.running:
        count = len(waiting) if arrivals is None else arrivals.choice((0, 0, 1, 2))
        while waiting and count and batch.fits(len(waiting[0][1].prompt) + waiting[0][1].max_tokens):
            batch.join(arrival(*waiting.pop(0)))
            count -= 1
        for key, token in batch.step():
            made[key].append(token.id)
    return made


def alone(policy: Policy, row: Row) -> list[int]:
    """The same row by itself through transformers and PEFT, one token after the other."""
    from sawyer.generation import decode

    return [step[0].id for step in decode(policy, [row])]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_a_crowd_says_what_it_says_alone(backbones: Any, family: str) -> None:
    rows = crowd(16)
    whole = policy_of(backbones(family))
    expected = [alone(whole, row) for row in rows]
    policy = policy_of(backbones(family))
    assert can_run_ragged(policy)
    batch = RaggedBatch(policy, max_rows=6)
    lean = family.split()[0] in ("llama", "mistral", "qwen2", "qwen3")
    assert (type(batch._forward).__name__ == "LeanForward") is lean
    assert run(batch, rows, random.Random(3)) == expected
    assert run(batch, rows) == expected, "again, with everything that was read before still lying there"
    assert len({tuple(each) for each in expected}) > 8


def test_the_lean_pass_and_that_of_transformers_agree_where_both_can_run(
    backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = crowd(16, seed=4)
    lean = run(RaggedBatch(policy_of(backbones("qwen3")), max_rows=5), rows, random.Random(1))
    monkeypatch.setattr(ragged_batch, "can_run_lean", lambda policy: False)
    assert run(RaggedBatch(policy_of(backbones("qwen3")), max_rows=5), rows, random.Random(2)) == lean


def test_quantised_layers_answer_through_the_stacked_product(wide_backbone: Path) -> None:
    """NF4 on the CPU: the product is added to whatever the base layer gives."""
    spec = ModelSpec(backbone="here", context=CONTEXT, quantization="nf4", dtype="float32")

    def policy() -> Policy:
        made = Policy.load(wide_backbone, spec=spec, device="cpu")
        draw = torch.Generator().manual_seed(1)
        for stage in ("sft", "rlf"):
            made.add_adapter(stage, LoraSpec(r=4, alpha=8))
            with torch.no_grad():
                for parameter in made.parameters_of(stage):
                    parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draw))
        made.model.eval()
        return made

    rows = [Row([20, 30, 40, 50], stage, 12, 0.0) for stage in STAGES]
    expected = [alone(policy(), row) for row in rows]
    batch = RaggedBatch(policy())
    assert type(batch._forward).__name__ == "ModelForward"
    assert run(batch, rows) == expected
    assert len({tuple(each) for each in expected}) == 3


def test_a_row_of_base_is_the_bare_backbone_to_the_last_bit(backbones: Any) -> None:
    """The mask is 0 for it: what the adapters of its neighbours add is exactly nothing."""
    rows = [Row([20, 30, 40], "base", 8, 1.0, seed=2)]
    steps = {}
    for company in ((), (Row([9, 8, 7], "rlf", 8, 1.0, seed=3),)):
        batch = RaggedBatch(policy_of(backbones("llama")))
        made = []
        for key, row in enumerate([*rows, *company]):
            batch.join(arrival(key, row))
        while batch.running:
            made += [token.logprob for key, token in batch.step() if key == 0]
        steps[len(company)] = made
    torch.testing.assert_close(torch.tensor(steps[0]), torch.tensor(steps[1]), atol=1e-5, rtol=0)


def test_a_second_turn_reads_what_is_new(backbones: Any) -> None:
    policy = policy_of(backbones("llama"))
    batch = RaggedBatch(policy)
    first = Row(list(range(20, 40)), "sft", 6, 0.0)
    reply = run(batch, [first])[0]
    assert (batch.read_tokens, batch.reused_tokens) == (20, 0)
    second = Row([*first.prompt, *reply, 50, 51, 52], "sft", 6, 0.0)
    expected = alone(policy_of(backbones("llama")), second)
    assert run(batch, [second])[0] == expected
    # The last token of a reply was made, not read: it and the three new ones are.
    assert (batch.read_tokens, batch.reused_tokens) == (20 + 4, 25)
    # Another stage's keys are others: nothing is taken over.
    assert run(batch, [Row(second.prompt, "rlf", 6, 0.0)])[0] == alone(
        policy_of(backbones("llama")), Row(second.prompt, "rlf", 6, 0.0)
    )
    assert batch.reused_tokens == 25


def test_several_replies_to_one_prompt_read_it_once(backbones: Any) -> None:
    rows = [Row(list(range(20, 60)), "rlf", 10, 1.0, seed=seed) for seed in range(4)]
    expected = [alone(policy_of(backbones("llama")), row) for row in rows]
    batch = RaggedBatch(policy_of(backbones("llama")))
    assert run(batch, rows) == expected
    assert (batch.read_tokens, batch.reused_tokens) == (40 + 3, 3 * 39)


def test_long_prompts_are_read_in_pieces_while_others_go_on(backbones: Any) -> None:
    batch = RaggedBatch(policy_of(backbones("llama")), piece=16)
    talking, reading = Row([20, 21], "base", 30, 1.0, seed=1), Row(list(range(20, 80)), "sft", 8, 0.0)
    batch.join(arrival(0, talking))
    made: list[list[int]] = [[], []]
    steps = []
    for number in range(40):
        if number == 2:
            batch.join(arrival(1, reading))
        step = batch.step()
        for key, token in step:
            made[key].append(token.id)
        steps.append([key for key, _ in step])
    # 60 tokens in pieces of 16: the fourth step after joining ends with the first token; row 0 never had to wait.
    assert next(number for number, keys in enumerate(steps) if 1 in keys) == 2 + 3
    assert all(0 in keys for keys in steps[: len(made[0])])
    assert made == [alone(policy_of(backbones("llama")), row) for row in (talking, reading)]


def test_rows_that_leave_free_their_places_and_the_rest_goes_on(backbones: Any) -> None:
    rows = [Row([20 + number, 30], STAGES[number % 3], 30, 1.0, seed=number) for number in range(6)]
    expected = [alone(policy_of(backbones("llama")), row) for row in rows]
    batch = RaggedBatch(policy_of(backbones("llama")), max_rows=4)
    made: list[list[int]] = [[] for _ in rows]

    def step() -> None:
        for key, token in batch.step():
            made[key].append(token.id)

    for key in range(4):
        batch.join(arrival(key, rows[key]))
    assert not batch.fits(32)
    step()
    step()
    batch.leave(1)
    batch.leave(3)
    batch.leave("never there")
    kept = [list(part) for part in made]
    assert batch.running <= 2 and batch.fits(32)
    for key in (4, 5):
        batch.join(arrival(key, rows[key]))
    while batch.running:
        step()
    assert [made[key] for key in (0, 2, 4, 5)] == [expected[key] for key in (0, 2, 4, 5)]
    assert (made[1], made[3]) == (kept[1], kept[3])


def test_buffers_grow_with_the_rows_and_stay_within_the_limit(backbones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sawyer.ragged import slots

    monkeypatch.setattr(slots, "FIRST_CAPACITY", 8)
    monkeypatch.setattr(slots, "FIRST_PLACES", 1)
    rows = crowd(20, seed=7)
    expected = [alone(policy_of(backbones("llama")), row) for row in rows]
    batch = RaggedBatch(policy_of(backbones("llama")), max_rows=8, max_tokens=160)
    sizes = []
    resize = batch.slots._resize

    def noted(places: int, capacity: int, lengths: Sequence[int]) -> None:
        resize(places, capacity, lengths)
        sizes.append((places, capacity))

    batch.slots._resize = noted  # type: ignore[method-assign]
    assert run(batch, rows, random.Random(5)) == expected
    assert len(sizes) > 2 and max(places for places, _ in sizes) > 1
    assert all(places * capacity <= 160 or places == 1 for places, capacity in sizes)


def test_adapters_come_and_go_while_rows_run(backbones: Any, tmp_path: Path) -> None:
    other = policy_of(backbones("llama"), ["sft"], seed=9)
    other.save_adapter("sft", tmp_path / "new")
    policy = policy_of(backbones("llama"))
    batch = RaggedBatch(policy)
    running = Row([20, 30, 40], "sft", 20, 1.0, seed=4)
    batch.join(arrival(0, running))
    made: list[list[int]] = [[], []]

    def step() -> None:
        for key, token in batch.step():
            made[key].append(token.id)

    for _ in range(5):
        step()
    policy.load_adapter("sft@2", tmp_path / "new")
    batch.restack(["sft", "rlf", "sft@2"])
    newer = Row([20, 30, 40], "sft@2", 20, 1.0, seed=4)
    batch.join(Arrival(1, newer, "sft@2"))
    while batch.running:
        step()
    assert made[0] == alone(policy_of(backbones("llama")), running)
    assert made[1] == alone(other, Row(newer.prompt, "sft", 20, 1.0, seed=4)) != made[0]
    policy.drop_adapter("rlf")
    batch.restack(["sft", "sft@2"])
    assert run(batch, [running])[0] == made[0]
    with pytest.raises(ModelError, match="no stage 'rlf'"):
        batch.join(arrival(0, Row([20], "rlf", 4)))


def test_what_cannot_run_so_is_known_before(backbones: Any, tiny_backbone: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    window = SIZES | {"num_key_value_heads": 1, "sliding_window": 16}
    folder = make_model("MistralConfig", window, tiny_backbone, tmp_path / "window")
    assert not can_run_ragged(Policy.load(folder, spec=ModelSpec(backbone="here", context=CONTEXT), device="cpu"))
    for options in ({"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "lora_only"}):
        policy = policy_of(backbones("llama with biases"), [])
        config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **options)
        policy.model = get_peft_model(policy.model, config, adapter_name="sft")
        assert not can_run_ragged(policy), options
    assert can_run_ragged(policy_of(backbones("llama"), [])), "base alone"


def test_an_empty_or_too_long_prompt_is_refused_before_it_joins(backbones: Any) -> None:
    batch = RaggedBatch(policy_of(backbones("llama")))
    for row in (Row([], "base", 4), Row([9] * 90, "base", 10)):
        with pytest.raises(ModelError):
            batch.join(arrival(0, row))
    assert batch.running == 0 and batch.step() == []


def test_generate_and_the_batch_share_their_randomness(backbones: Any) -> None:
    """A seed's text does not depend on which of the two made it."""
    from sawyer.generation import row_seed

    whole = policy_of(backbones("llama"))
    prompts = [[20, 30, 40], [50, 60]]
    made = generate(whole, prompts, stage="rlf", max_tokens=12, seed=3)
    rows = [Row(prompt, "rlf", 12, 1.0, seed=row_seed(3, number)) for number, prompt in enumerate(prompts)]
    assert run(RaggedBatch(policy_of(backbones("llama"))), rows) == [each.ids for each in made]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stage_added_to_the_weights_answers_alike_and_the_policy_stays_as_it_is(backbones: Any, dtype: str) -> None:
    policy = policy_of(backbones("qwen3"))
    policy.model.to(getattr(torch, dtype))
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    rows = rows_of([[20, 30, 40], [50], list(range(60, 80))], stage="rlf", max_tokens=12, seed=3)
    assert can_run_merged(policy, "rlf")
    ours = generate_merged(policy, rows)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())
    with policy.merged("rlf"):
        theirs = [alone(policy, row) for row in rows]
    if dtype == "float32":
        assert [each.ids for each in ours] == theirs
    else:  # the same first token, and so on until rounding tells them apart
        assert [each.ids[0] for each in ours] == [each[0] for each in theirs]
    assert generate_merged(policy, rows) == ours, "again: the same bits"
    assert generate_merged(policy, []) == []
