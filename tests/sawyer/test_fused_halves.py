"""The halves of a decoder layer against finite differences, and the passes they are made of: kernels against torch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import scaled_dot_product_attention

from sawyer.fused import fuse, kernels, layers, passes
from sawyer.fused.halves import AttentionHalf, GatedHalf, Product
from sawyer.fused.passes import Heads
from tests.sawyer.test_fused import doubles, policy_of, wanted
from tests.sawyer.test_fused import passes as whole_passes

SHAPE = Heads(batch=2, length=3, queries=4, keys=2, width=4)


def angles(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """cos and sin [B, T, D], the two halves of a head alike."""
    half = doubles(SHAPE.batch, SHAPE.length, SHAPE.width // 2)
    whole = torch.cat([half, half], -1)
    return whole.cos().to(dtype), whole.sin().to(dtype)


def causal(dtype: torch.dtype = torch.float64) -> Tensor:
    mask = torch.zeros(SHAPE.batch, 1, SHAPE.length, SHAPE.length, dtype=dtype)
    return mask.masked_fill(torch.ones(SHAPE.length, SHAPE.length).triu(1).bool(), torch.finfo(dtype).min)


@pytest.mark.parametrize("first", [False, True], ids=["inner layer", "first layer"])
@pytest.mark.parametrize("masked", [True, False], ids=["causal", "no mask"])
def test_attention_has_the_gradients_of_finite_differences(first: bool, masked: bool) -> None:
    width, rows = 16, (SHAPE.queries + 2 * SHAPE.keys) * SHAPE.width
    qkv = Product(0.3 * doubles(rows, width), doubles(rows), (16, 8, 8), (0.5, 0.0, 0.7))  # keys have no adapter
    out = Product(0.3 * doubles(width, 16, seed=1), None, (width,), (0.4,))
    pairs = [
        0.3 * doubles(*size, seed=seed)
        for seed, size in enumerate([(2, 16), (16, 2), (3, 16), (8, 3), (2, 16), (16, 2)])
    ]
    norm, mask = doubles(width, seed=3), causal() if masked else None

    def half(x: Tensor, *pairs: Tensor) -> Tensor:
        return AttentionHalf.apply(x, norm, 1e-6, *angles(), mask, SHAPE, 0.5, qkv, out, *pairs)

    x = doubles(SHAPE.batch * SHAPE.length, width, seed=5).requires_grad_(not first)
    assert gradcheck(half, (x, *[pair.requires_grad_() for pair in pairs]))


def test_the_gated_unit_has_the_gradients_of_finite_differences() -> None:
    gate_up = Product(doubles(10, 4), None, (5, 5), (0.5, 0.7))
    down = Product(doubles(4, 5, seed=1), doubles(4, seed=2), (4,), (0.0,))
    pairs = [wanted(*size, seed=seed) for seed, size in enumerate([(2, 4), (5, 2), (3, 4), (5, 3)])]
    norm = doubles(4, seed=3)
    assert gradcheck(lambda x, *p: GatedHalf.apply(x, norm, 1e-6, gate_up, down, *p), (wanted(3, 4, seed=7), *pairs))
    plain = Product(gate_up.weight, None, (5, 5), (0.0, 0.0))
    assert gradcheck(lambda x: GatedHalf.apply(x, norm, 1e-6, plain, down), (wanted(3, 4, seed=7),))


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Call it, and torch does everything from then on."""

    def turn_off() -> None:
        monkeypatch.setenv("SAWYER_COMPILE", "0")
        kernels._kernels.cache_clear()

    yield turn_off
    monkeypatch.undo()
    kernels._kernels.cache_clear()


def every_pass(dtype: torch.dtype) -> dict[str, Any]:
    """Each pass on the same figures."""

    def some(*shape: int, seed: int = 0) -> Tensor:
        return doubles(*shape, seed=seed).to(dtype)

    x, weight, grad, both, mid = some(9, 40), some(40), some(9, 40, seed=1), some(9, 74), some(9, 37, seed=2)
    y, root = passes.norm(x, weight, 1e-6)
    rows, cos_sin = some(6, 32), [part.to(dtype) for part in angles()]
    q, k, v = passes.split_heads(rows, *cos_sin, SHAPE)
    weights = passes.softmax(some(2, 4, 3, 3), causal(dtype), 0.5)
    logits, tokens = 3 * some(5, 101), torch.tensor([0, 100, 7, 7, 50])
    found, total, entropy = passes.logprobs(logits, tokens, 0.7, entropies=True)
    return {
        "norm": (y, root),
        "norm_back": passes.norm_back(grad, x, weight, root, residual=grad),
        "norm_back alone": passes.norm_back(grad, x, weight, root)[0],
        "norm again": passes.norm_back(grad, x, weight, root, further=False)[1],
        "gate": (passes.gate(both), *passes.gate_back(both, mid)),
        "heads": (q, k, v, passes.join_heads(q, k, v, *cos_sin, SHAPE)),
        "softmax": (weights, passes.softmax(some(2, 4, 3, 3), None, 0.5)),
        "softmax_back": passes.softmax_back(weights, some(2, 4, 3, 3, seed=3), 0.5),
        "logprobs": (found, total, entropy),
        "logprobs_back": passes.logprobs_back(logits, tokens, total, found, 0.7),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kernels_give_what_torch_gives(dtype: torch.dtype, without_kernels: Callable[[], None]) -> None:
    if kernels.kernel("norm_forward", dtype) is None:
        pytest.skip("no C++ compiler here")
    compiled = every_pass(dtype)
    without_kernels()
    assert kernels.kernel("norm_forward", dtype) is None
    close = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.03, "rtol": 0.02}
    for name, found in every_pass(dtype).items():
        torch.testing.assert_close(compiled[name], found, msg=lambda text, name=name: f"{name}: {text}", **close)


def test_kernels_keep_what_is_not_a_number() -> None:
    logits = torch.zeros(2, 33).to(torch.bfloat16)
    logits[0, 5] = float("nan")
    found = passes.logprobs(logits, torch.tensor([1, 1]), 1.0, entropies=False)[0]
    assert found[0].isnan() and torch.isfinite(found[1])
    assert passes.gate(torch.full((1, 64), float("nan")))[0].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [4, 64])
def test_one_new_position_attends_as_torch_does(dtype: torch.dtype, width: int) -> None:
    shape, starts, capacity = Heads(3, 1, 4, 2, width), torch.tensor([0, 5, 2]), 8
    rows = doubles(3, 8 * width).to(dtype)
    cos, sin = torch.ones(3, width, dtype=dtype), torch.zeros(3, width, dtype=dtype)  # turned by nothing
    cache = [doubles(3, capacity, 2 * width, seed=seed).to(dtype) for seed in (1, 2)]
    found = passes.attend_one(rows, cos, sin, (cache[0], cache[1]), starts, shape, 0.5)
    if found is None:
        pytest.skip("no C++ compiler here")
    q, k, v = rows.float().split([4 * width, 2 * width, 2 * width], -1)
    for row, start in enumerate(starts.tolist()):
        assert torch.equal(cache[0][row, start].float(), k[row]) and torch.equal(cache[1][row, start].float(), v[row])
        keys, values = (part[row, : start + 1].float().view(-1, 2, width).transpose(0, 1) for part in cache)
        want = scaled_dot_product_attention(
            q[row].view(1, 4, 1, width), keys[None], values[None], scale=0.5, enable_gqa=True
        )
        torch.testing.assert_close(found[row].float(), want.flatten(), atol=0.02, rtol=0.02)


def test_layers_run_by_halves_until_something_is_out_of_the_ordinary(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    inner = AttentionHalf.forward
    monkeypatch.setattr(AttentionHalf, "forward", staticmethod(lambda *given: (ran.append("half"), inner(*given))[1]))
    policy = policy_of(tiny_backbone)
    plain, gradient = whole_passes(policy)
    fuse(policy.model, torch.float32)
    found, found_gradient = whole_passes(policy)
    assert len(ran) == policy.model.config.num_hidden_layers
    monkeypatch.setattr(layers, "LONGEST", 4)
    old_way, old_gradient = whole_passes(policy)
    with torch.no_grad(), policy.merged("rlf"), policy.using("rlf") as model:  # weights that lie elsewhere
        model(input_ids=torch.tensor([[5, 6, 7]]))
    assert len(ran) == policy.model.config.num_hidden_layers
    for values, gradients in ((found, found_gradient), (old_way, old_gradient)):
        torch.testing.assert_close(values, plain, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(gradients, gradient, atol=1e-4, rtol=1e-4)


def test_without_a_compiler_it_is_said_once_and_the_result_is_the_same(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = policy_of(tiny_backbone)
    fuse(policy.model, torch.float32)
    compiled, _ = whole_passes(policy)
    monkeypatch.setattr(kernels.shutil, "which", lambda _: None)
    kernels._kernels.cache_clear()
    try:
        plain, _ = whole_passes(policy)
        whole_passes(policy)
        torch.testing.assert_close(plain, compiled, atol=2e-5, rtol=1e-5)
        said = capsys.readouterr()
        assert (said.out + said.err).count("No C++ compiler") == (kernels.sys.platform == "linux")
    finally:
        kernels._kernels.cache_clear()
