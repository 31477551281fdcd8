"""The hand-written forward and backward passes, against autograd, transformers and PEFT."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import scaled_dot_product_attention

from sawyer.errors import ModelError
from sawyer.fused import fuse
from sawyer.fused.functions import DenseAttention, LoraLinear, RmsNorm, SwiGlu, TokenLogprobs
from sawyer.logprobs import Batch, collate, entropy, response_logits, token_logprobs
from sawyer.models import Policy
from sawyer.recipe import LoraSpec, ModelSpec

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12], [40, 41], [60]]
REPLIES = [[20, 21, 22, 23], [30], [50, 51, 52, 53, 54, 55], [70, 71]]


def doubles(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + len(shape)))


def wanted(*shape: int, seed: int = 0) -> Tensor:
    return doubles(*shape, seed=seed).requires_grad_()


def test_gradients_are_those_of_finite_differences() -> None:
    weight, bias, norm = doubles(5, 4), doubles(5, seed=1), doubles(4, seed=2)
    assert gradcheck(
        lambda x, a, b: LoraLinear.apply(x, weight, bias, a, b, 0.7),
        (wanted(2, 3, 4), wanted(2, 4, seed=3), wanted(5, 2, seed=4)),
    )
    assert gradcheck(lambda x: RmsNorm.apply(x, norm, 1e-6), (wanted(2, 3, 4),))
    assert gradcheck(SwiGlu.apply, (wanted(2, 3), wanted(2, 3, seed=5)))
    tokens = torch.tensor([[1, 0, 6], [2, 2, 3]])
    for heat in (1.0, 0.7):
        assert gradcheck(lambda x, heat=heat: TokenLogprobs.apply(x, tokens, heat), (wanted(2, 3, 7),))
    bias = torch.zeros(2, 1, 3, 4, dtype=torch.float64).masked_fill(torch.ones(3, 4).triu(2).bool(), -1e9)
    heads = [wanted(2, 2, length, 5, seed=length) for length in (3, 4, 4)]
    assert gradcheck(lambda q, k, v: DenseAttention.apply(q, k, v, bias, 0.4), heads)
    assert gradcheck(lambda q, k, v: DenseAttention.apply(q, k, v, None, 0.4), heads)


def test_values_are_the_definitions() -> None:
    x, weight, a, b = doubles(3, 4), doubles(5, 4, seed=1), doubles(2, 4, seed=2), doubles(5, 2, seed=3)
    torch.testing.assert_close(LoraLinear.apply(x, weight, None, a, b, 2.0), x @ weight.T + 2 * x @ a.T @ b.T)
    q, k, v = (doubles(2, 3, length, 8, seed=length) for length in (4, 6, 6))
    mask = torch.zeros(2, 1, 4, 6, dtype=torch.float64).masked_fill(torch.ones(4, 6).triu(3).bool(), -1e9)
    ours = DenseAttention.apply(q, k, v, mask, 0.3).transpose(1, 2)
    torch.testing.assert_close(ours, scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3))
    logits, tokens = doubles(2, 3, 50), torch.tensor([[0, 4, 49], [7, 7, 1]])
    logprobs = (logits / 0.7).log_softmax(-1)
    torch.testing.assert_close(token_logprobs(logits, tokens, 0.7), logprobs.gather(-1, tokens[..., None]).squeeze(-1))
    torch.testing.assert_close(entropy(logits, 0.7).double(), -(logprobs.exp() * logprobs).sum(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_logits_that_were_given_stay_as_they_are(dtype: torch.dtype) -> None:
    for heat in (1.0, 0.5):
        logits = doubles(2, 3, 9).to(dtype).requires_grad_()
        before = logits.detach().clone()
        token_logprobs(logits, torch.tensor([[1, 2, 3], [4, 5, 6]]), heat).sum().backward()
        assert torch.equal(logits.detach(), before)


def policy_of(folder: Path, **lora: Any) -> Policy:
    """Adapters sft and rlf, both random, on a tiny backbone."""
    policy = Policy.load(folder, spec=ModelSpec(backbone=str(folder)), device="cpu")
    draw = torch.Generator().manual_seed(1)
    for stage in ("sft", "rlf"):
        policy.add_adapter(stage, LoraSpec(r=4, alpha=8, **lora))
        with torch.no_grad():
            for parameter in policy.parameters_of(stage):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    policy.model.eval()
    return policy


def batch() -> Batch:
    return collate(PROMPTS, REPLIES, 0)


def passes(policy: Policy, stage: str = "rlf") -> tuple[Tensor, Tensor]:
    """Log-probabilities under a stage, and the gradient of their sum."""
    given = batch()
    with policy.using(stage, train=True):
        logits, _ = response_logits(policy.model, given)
        found = token_logprobs(logits, given.responses) * given.response_mask
        for parameter in policy.parameters_of(stage):
            parameter.grad = None
        found.sum().backward()
    return found.detach(), torch.cat([p.grad.flatten() for p in policy.parameters_of(stage) if p.grad is not None])


@pytest.mark.parametrize("heads", [2, 1], ids=["heads of their own", "shared keys"])
def test_a_fused_policy_gives_what_peft_and_transformers_give(tiny_backbone: Path, tmp_path: Path, heads: int) -> None:
    folder = tiny_backbone if heads == 2 else with_shared_keys(tiny_backbone, tmp_path)
    policy = policy_of(folder)
    plain, gradient = passes(policy)
    fuse(policy.model, torch.float32)
    names = {type(m.forward.__func__).__name__ for m in policy.model.modules() if "forward" in vars(m)}
    assert names and policy.model.config._attn_implementation == "sawyer_dense"
    ours, ours_gradient = passes(policy)
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours_gradient, gradient, atol=1e-4, rtol=1e-4)
    # Gradients or not, and whatever else was asked in between: the same bits.
    passes(policy, "sft")
    with torch.no_grad(), policy.using("rlf"):
        again = token_logprobs(response_logits(policy.model, batch())[0], batch().responses)
    assert torch.equal(again * batch().response_mask, ours)


def with_shared_keys(folder: Path, target: Path) -> Path:
    """The same backbone with one key head for all query heads."""
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    config = AutoConfig.from_pretrained(folder)
    config.num_key_value_heads = 1
    torch.manual_seed(4)
    LlamaForCausalLM(config).save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def test_in_bf16_it_is_no_further_from_float32_than_autocast_is(tiny_backbone: Path) -> None:
    exact, _ = passes(policy_of(tiny_backbone))
    with torch.autocast("cpu", torch.bfloat16):
        cast, _ = passes(policy_of(tiny_backbone))
    policy = policy_of(tiny_backbone)
    fuse(policy.model, torch.bfloat16)
    kinds = {p.dtype for n, p in policy.model.named_parameters() if "lora_" not in n}
    assert kinds == {torch.bfloat16} and {p.dtype for p in policy.parameters_of("rlf")} == {torch.float32}
    ours, gradient = passes(policy)
    assert gradient.dtype == torch.float32
    assert float((ours - exact).abs().mean()) < 2 * float((cast - exact).abs().mean()) + 1e-3


def test_long_sequences_and_what_is_not_plain_go_the_old_way(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sawyer.fused import install

    policy = policy_of(tiny_backbone, dropout=0.5)
    plain, _ = passes(policy)
    fuse(policy.model, torch.float32)
    monkeypatch.setattr(install, "LONGEST", 4)
    torch.testing.assert_close(passes(policy)[0], plain, atol=2e-5, rtol=1e-5)
    policy.model.train()  # dropout is PEFT's business
    assert not torch.allclose(passes(policy)[0], plain, atol=1e-3)


def test_a_merged_stage_answers_alike_and_leaves_the_weights_as_they_were(tiny_backbone: Path) -> None:
    policy = policy_of(tiny_backbone)
    fuse(policy.model, torch.float32)
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    ids = torch.tensor([PROMPTS[1]])

    def ask(stage: str) -> Tensor:
        with torch.no_grad(), policy.using(stage) as model:
            return model(input_ids=ids).logits

    adapted, raw = ask("rlf"), ask("base")
    with policy.merged("rlf"):
        torch.testing.assert_close(ask("rlf"), adapted, atol=1e-4, rtol=1e-4)
        for stage in ("base", "sft"):
            with pytest.raises(ModelError, match=f"{stage} cannot be asked while rlf"):
                ask(stage)
    with pytest.raises(KeyError), policy.merged("rlf"):
        raise KeyError
    assert torch.equal(ask("rlf"), adapted) and torch.equal(ask("base"), raw)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())


@pytest.mark.parametrize("more", [{"use_dora": True}, {"modules_to_save": ["model.norm"]}], ids=["dora", "whole norm"])
def test_an_adapter_that_is_more_than_lora_is_not_merged(tiny_backbone: Path, more: dict[str, Any]) -> None:
    """DoRA scales the whole weight, a module trained whole is no sum: the answers come from PEFT, merged or not."""
    from peft import LoraConfig, get_peft_model

    policy = Policy.load(tiny_backbone, spec=ModelSpec(backbone=str(tiny_backbone)), device="cpu")
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **more)
    policy.model = get_peft_model(policy.model, config, adapter_name="rlf")
    policy._remember("rlf")
    with torch.no_grad():
        for parameter in policy.parameters_of("rlf"):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)).abs())
    policy.model.eval()
    ids = torch.tensor([PROMPTS[1]])

    def ask() -> Tensor:
        with torch.no_grad(), policy.using("rlf") as model:
            return model(input_ids=ids).logits

    plain = ask()
    fuse(policy.model, torch.float32)
    torch.testing.assert_close(ask(), plain, atol=1e-4, rtol=1e-4)
    fused = ask()
    with policy.merged("rlf"):
        assert torch.equal(ask(), fused)


def test_stages_nest(tiny_backbone: Path) -> None:
    """Base inside rlf, and rlf again after it."""
    policy = policy_of(tiny_backbone)
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad(), policy.using("rlf") as model:
        first = model(input_ids=ids).logits
        with policy.using("base"):
            inner = model(input_ids=ids).logits
        second = model(input_ids=ids).logits
    assert torch.equal(first, second) and not torch.allclose(first, inner)
