"""PPO's maths against numbers worked out by hand and against direct formulas from the papers."""

import math

import pytest
import torch
from torch import Tensor, tensor

from train.ppo.maths import (
    KlController,
    correlation,
    explained_variance,
    gae,
    kl_k1,
    kl_k3,
    length_mask,
    linear_decay,
    masked_mean,
    mean_of_others,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)


def test_length_mask_counts_from_lengths() -> None:
    expected = tensor([[True, False, False], [True, True, True]])
    assert torch.equal(length_mask(tensor([1, 3]), 3), expected)


def test_masked_mean_ignores_padding_and_survives_an_empty_mask() -> None:
    values = tensor([[1.0, 3.0, 100.0]])
    assert masked_mean(values, tensor([[True, True, False]])).item() == 2.0
    assert masked_mean(values, torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0


def test_whiten_centres_over_valid_tokens_of_all_rows() -> None:
    values = tensor([[1.0, 2.0, 50.0], [3.0, 50.0, 50.0]])
    mask = tensor([[True, True, False], [True, False, False]])
    # Mean 2, population variance 2/3: -1/sqrt(2/3) = -1.2247449.
    expected = tensor([[-1.2247449, 0.0, 0.0], [1.2247449, 0.0, 0.0]])
    torch.testing.assert_close(whiten(values, mask), expected)


def test_the_mean_of_the_others_by_hand() -> None:
    scores = tensor([1.0, 10.0, 2.0, 6.0, 20.0])
    ours = mean_of_others(scores, ["a", "b", "a", "a", "c"])
    torch.testing.assert_close(ours, tensor([4.0, 0.0, 3.5, 1.5, 0.0]))


def test_kl_estimates_by_hand() -> None:
    logprobs, reference = tensor([[-1.0, -2.0, 7.0]]), tensor([[-1.5, -1.0, 9.0]])
    mask = tensor([[True, True, False]])
    torch.testing.assert_close(kl_k1(logprobs, reference, mask), tensor([[0.5, -1.0, 0.0]]))
    expected = [math.exp(-0.5) - 1 + 0.5, math.exp(1.0) - 1 - 1.0, 0.0]  # r - 1 - log r, r = exp(reference - logprob)
    torch.testing.assert_close(kl_k3(logprobs, reference, mask), tensor([expected]))


def test_kl_estimates_agree_with_the_exact_divergence() -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(5).log_softmax(0), torch.randn(5).log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    mask = torch.ones(5, dtype=torch.bool)
    for estimate in (kl_k1, kl_k3):  # their expectation under the policy is the divergence
        torch.testing.assert_close((policy.exp() * estimate(policy, reference, mask)).sum(), exact)


def test_score_lands_on_the_last_valid_token() -> None:
    kl = tensor([[0.5, -1.0, 0.0], [1.0, 2.0, 4.0]])
    rewards = token_rewards(kl, tensor([2.0, -3.0]), tensor([2, 3]), beta=0.1)
    torch.testing.assert_close(rewards, tensor([[-0.05, 2.1, 0.0], [-0.1, -0.2, -3.4]]))
    assert torch.equal(kl, tensor([[0.5, -1.0, 0.0], [1.0, 2.0, 4.0]]))  # the input is left alone


def test_token_rewards_refuse_an_empty_row() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        token_rewards(torch.zeros(1, 2), tensor([1.0]), tensor([0]), beta=0.1)


def test_gae_by_hand() -> None:
    # One row of length 2 in width 3, gamma 0.5, lambda 0.5, garbage in the padding.
    rewards, values = tensor([[1.0, 2.0, 99.0]]), tensor([[0.5, 0.25, 99.0]])
    advantages, returns = gae(rewards, values, tensor([[True, True, False]]), gamma=0.5, lam=0.5)
    last = 2.0 - 0.25  # V past the end is 0
    first = (1.0 + 0.5 * 0.25 - 0.5) + 0.25 * last
    torch.testing.assert_close(advantages, tensor([[first, last, 0.0]]))
    torch.testing.assert_close(returns, tensor([[first + 0.5, 2.0, 0.0]]))


def _gae_by_definition(rewards: Tensor, values: Tensor, length: int, gamma: float, lam: float) -> Tensor:
    """A_t = sum over l of (gamma lam)^l delta_{t+l}, written as the double sum of the paper."""
    padded = torch.cat([values[:length], torch.zeros(1)])
    deltas = rewards[:length] + gamma * padded[1:] - padded[:-1]
    result = torch.zeros(len(rewards))
    for t in range(length):
        result[t] = sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, length))
    return result


def test_gae_equals_the_papers_double_sum() -> None:
    torch.manual_seed(1)
    rewards, values, lengths = torch.randn(3, 6), torch.randn(3, 6), tensor([6, 3, 1])
    advantages, _ = gae(rewards, values, length_mask(lengths, 6), gamma=0.97, lam=0.9)
    for row in range(3):
        expected = _gae_by_definition(rewards[row], values[row], int(lengths[row]), 0.97, 0.9)
        torch.testing.assert_close(advantages[row], expected)


def test_gae_with_lambda_one_returns_the_sum_of_future_rewards() -> None:
    rewards, mask = tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool)
    _, returns = gae(rewards, tensor([[5.0, -1.0, 2.0]]), mask, gamma=1.0, lam=1.0)
    torch.testing.assert_close(returns, tensor([[6.0, 5.0, 3.0]]))


def test_policy_loss_clips_by_hand() -> None:
    # Ratio 1.5: clipped to 1.2 where A > 0, free where A < 0. Ratio 0.5: free where A > 0, clipped to 0.8 where A < 0.
    ratios, advantages = tensor([[1.5, 1.5, 0.5, 0.5, 3.0]]), tensor([[1.0, -1.0, 1.0, -1.0, 9.0]])
    mask = tensor([[True, True, True, True, False]])
    result = policy_loss(ratios.log(), torch.zeros(1, 5), advantages, mask, clip=0.2)
    assert result.loss.item() == pytest.approx(-1.2 + 1.5 - 0.5 + 0.8)
    assert result.clipped.item() == 2
    assert result.ratio.item() == pytest.approx(4.0)
    assert result.approx_kl.item() == pytest.approx(sum(r - 1 - math.log(r) for r in (1.5, 1.5, 0.5, 0.5)))


def test_policy_gradient_at_ratio_one_is_minus_the_advantage_and_zero_in_the_padding() -> None:
    logprobs = tensor([[-1.0, -2.0, 500.0]], requires_grad=True)
    old = tensor([[-1.0, -2.0, -500.0]])  # exp of the padding's difference would overflow
    policy_loss(logprobs, old, tensor([[2.0, -3.0, 1.0]]), tensor([[True, True, False]]), 0.2).loss.backward()
    assert torch.equal(logprobs.grad, tensor([[-2.0, 3.0, 0.0]]))


def test_value_loss_clips_by_hand() -> None:
    values, old = tensor([[1.0, 1.0, 9.0]]), tensor([[0.0, 0.9, 0.0]])
    returns, mask = tensor([[2.0, 2.0, 0.0]]), tensor([[True, True, False]])
    loss, clipped = value_loss(values, old, returns, mask, clip=0.2)
    assert loss.item() == pytest.approx(0.5 * (1.8**2 + 1.0))  # the first is held at 0.2, the second within reach
    assert clipped.item() == 1


def test_losses_of_micro_batches_add_up_to_the_minibatch() -> None:
    torch.manual_seed(2)
    new, old, advantages = torch.randn(3, 4, 5).unbind()
    mask = length_mask(tensor([5, 2, 3, 1]), 5)
    whole = policy_loss(new, old, advantages, mask, 0.2).loss / mask.sum()
    parts = [policy_loss(new[i], old[i], advantages[i], mask[i], 0.2).loss for i in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(sum(parts) / mask.sum(), whole)


def test_explained_variance() -> None:
    returns, mask = tensor([[1.0, 2.0, 3.0, 77.0]]), tensor([[True, True, True, False]])
    assert explained_variance(returns, returns, mask) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(1, 4), returns, mask) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3.0)  # Var(2R) / Var(R) = 4
    assert explained_variance(torch.randn(1, 4), torch.ones(1, 4), mask) == 0.0


def test_correlation() -> None:
    assert correlation(tensor([1.0, 2.0, 3.0]), tensor([3.0, 5.0, 7.0])) == pytest.approx(1.0)
    assert correlation(tensor([1.0, 2.0, 3.0]), tensor([1.0, -2.0, 1.0])) == pytest.approx(0.0)
    assert correlation(tensor([1, 1, 1]), tensor([1, 2, 3])) == 0.0


def test_linear_decay_never_reaches_zero_within_the_run() -> None:
    assert [linear_decay(step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_fixed_beta_stays() -> None:
    assert KlController(0.05).after(kl=100.0, episodes=64).beta == 0.05


def test_adaptive_beta_follows_the_target() -> None:
    controller = KlController(0.1, target=6.0, horizon=1000)
    assert controller.after(kl=6.0, episodes=100).beta == pytest.approx(0.1)
    assert controller.after(kl=6.6, episodes=100).beta == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    assert controller.after(kl=60.0, episodes=100).beta == pytest.approx(0.1 * 1.02)  # error held at +0.2
    assert controller.after(kl=-60.0, episodes=100).beta == pytest.approx(0.1 * 0.98)
    assert controller.after(kl=math.nan, episodes=100).beta == 0.1
