"""PPO's maths against the code of TRL 1.12 and torchtune, run as it is.

Neither can be installed beside transformers 5, and none of their code is kept here: their wheels are fetched without
dependencies, once, and the functions and passages that are needed are cut out of the source and run with torch alone.
Where SAWYER differs from them on purpose, a test says in what.
"""

import __future__

import ast
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, tensor

from sawyer.logprobs import collate, token_logprobs
from train.ppo.maths import (
    gae,
    kl_k1,
    kl_k3,
    length_mask,
    masked_mean,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)

pytestmark = pytest.mark.slow  # the wheels are fetched once: two megabytes

TRL, TORCHTUNE = "trl==1.12.0", "torchtune==0.6.1"
GAMMA, LAM, BETA, CLIP, VALUE_CLIP = 0.97, 0.9, 0.1, 0.2, 0.3
FULL, RAGGED = tensor([6, 6, 6, 6]), tensor([6, 3, 1, 5])


def fetch(requirement: str, folder: Path) -> zipfile.ZipFile:
    """The package's wheel, from ``folder`` or else from the package index; without an index the test is skipped."""
    found = list(folder.glob(f"{requirement.replace('==', '-')}-*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        try:
            done = subprocess.run(
                [*command, "--retries", "1", "--dest", str(folder), requirement],
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pytest.skip(f"{requirement} was not fetched within two minutes")
        found = list(folder.glob(f"{requirement.replace('==', '-')}-*.whl"))
        if done.returncode or not found:
            pytest.skip(f"{requirement} cannot be fetched: {' '.join(done.stderr.split())[-200:]}")
    return zipfile.ZipFile(found[0])


def cut(source: str, *names: str, **scope: Any) -> SimpleNamespace:
    """The top-level functions and classes of these names, defined with torch and ``scope`` in reach."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names]
    assert len(tree.body) == len(names)
    inside = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, **scope}
    # Annotations stay text: the names in them are not imported.
    exec(compile(tree, "<others>", "exec", flags=__future__.annotations.compiler_flag), inside)
    return SimpleNamespace(**{name: inside[name] for name in names})


def passage(source: str, first: str, last: str) -> Callable[..., SimpleNamespace]:
    """The statements from the one that assigns ``first`` to the last that assigns ``last``, in the same block.

    Called with the variables the passage reads, it gives back all variables after it.
    """
    for node in ast.walk(ast.parse(source)):
        block = getattr(node, "body", None)
        targets = [_target(statement) for statement in block] if isinstance(block, list) else []
        if first in targets and last in targets:
            begin, end = targets.index(first), len(targets) - targets[::-1].index(last)
            code = compile(ast.Module(body=block[begin:end], type_ignores=[]), "<others>", "exec")
            return lambda **given: _run(code, given)
    raise AssertionError(f"no block assigns {first} and {last}")


def _target(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[target]) | ast.AugAssign(target=target):
            return ast.unparse(target)
        case _:
            return ""


def _run(code: Any, given: dict[str, Any]) -> SimpleNamespace:
    inside = {"torch": torch, **given}
    exec(code, inside)
    inside.pop("__builtins__")
    return SimpleNamespace(**inside)


class Trl(NamedTuple):
    """TRL's functions, and passages of its trainer's ``train``."""

    maths: SimpleNamespace  # masked_mean, masked_whiten
    forward: Callable[..., Any]
    rollout: Callable[..., SimpleNamespace]  # from masks over rewards to whitened advantages
    kl: Callable[..., SimpleNamespace]
    logprobs: Callable[..., SimpleNamespace]
    losses: Callable[..., SimpleNamespace]
    figures: Callable[..., SimpleNamespace]


@pytest.fixture(scope="module")
def wheels(pytestconfig: pytest.Config) -> Path:
    """Kept from one session to the next."""
    return Path(pytestconfig.cache.mkdir("wheels"))


@pytest.fixture(scope="module")
def trl(wheels: Path) -> Trl:
    with fetch(TRL, wheels) as wheel:
        source = wheel.read("trl/experimental/ppo/ppo_trainer.py").decode()
        utils = wheel.read("trl/trainer/utils.py").decode()
    maths = cut(source, "masked_mean", "masked_var", "masked_whiten")
    softmax = cut(utils, "selective_log_softmax").selective_log_softmax
    logprobs = passage(source, "logits", "new_logprobs")
    return Trl(
        maths,
        cut(source, "forward").forward,
        passage(source, "response_idxs", "advantages"),
        passage(source, "logr", "kl"),
        lambda **given: logprobs(selective_log_softmax=softmax, **given),
        passage(source, "vpredclipped", "loss"),
        passage(source, "pg_clipfrac", "approxkl"),
    )


@pytest.fixture(scope="module")
def tune(wheels: Path) -> SimpleNamespace:
    """torchtune's functions."""
    with fetch(TORCHTUNE, wheels) as wheel:
        rewards, loss, sequences = (
            wheel.read(f"torchtune/rlhf/{name}.py").decode() for name in ("rewards", "loss/ppo", "sequence_processing")
        )
    maths = cut(rewards, "masked_mean", "masked_var", "whiten", "estimate_advantages", "get_rewards_ppo")
    loss_class = cut(loss, "PPOLoss", rlhf=SimpleNamespace(masked_mean=maths.masked_mean)).PPOLoss
    logprobs = cut(sequences, "logits_to_logprobs").logits_to_logprobs
    return SimpleNamespace(**vars(maths), loss=loss_class(CLIP, VALUE_CLIP, 0.1), logits_to_logprobs=logprobs)


class Case(NamedTuple):
    """A rollout and an update of random numbers; outside the mask old and reference log-probabilities agree."""

    lengths: Tensor
    mask: Tensor
    old: Tensor
    new: Tensor
    reference: Tensor
    values: Tensor
    new_values: Tensor
    advantages: Tensor
    returns: Tensor
    scores: Tensor

    @property
    def count(self) -> int:
        return int(self.mask.sum())


def case(lengths: Tensor) -> Case:
    draw = torch.Generator().manual_seed(4)
    mask = length_mask(lengths, 6)
    rows = [torch.randn(mask.shape, generator=draw) * mask for _ in range(7)]
    old, new, reference = rows[0] - 2, rows[0] - 2 + 0.3 * rows[1], rows[0] - 2 + 0.5 * rows[2]
    return Case(lengths, mask, old, new, reference, *rows[3:], torch.randn(len(lengths), generator=draw))


def trl_rollout(trl: Trl, given: Case, estimator: str = "k1") -> SimpleNamespace:
    """TRL's way from log-probabilities to advantages; its ``sequence_lengths`` are places of the last tokens."""
    args = SimpleNamespace(kl_estimator=estimator, kl_coef=BETA, whiten_rewards=False, gamma=GAMMA, lam=LAM)
    return trl.rollout(
        args=args,
        responses=torch.zeros(given.mask.shape),
        sequence_lengths=given.lengths - 1,
        logprobs=given.old,
        ref_logprobs=given.reference,
        values=given.values,
        scores=given.scores,
        INVALID_LOGPROB=1.0,
        masked_whiten=trl.maths.masked_whiten,
    )


def trl_losses(trl: Trl, given: Case) -> SimpleNamespace:
    rows = torch.arange(len(given.lengths))
    return trl.losses(
        args=SimpleNamespace(cliprange=CLIP, cliprange_value=VALUE_CLIP, vf_coef=0.1),
        vpred=given.new_values,
        mb_values=given.values,
        mb_return=given.returns,
        new_logprobs=given.new,
        mb_logprobs=given.old,
        mb_advantage=given.advantages,
        padding_mask=~given.mask,
        padding_mask_p1=~given.mask,
        micro_batch_inds=rows,
        masked_mean=trl.maths.masked_mean,
    )


def our_advantages(given: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, advantages before whitening, and returns."""
    rewards = token_rewards(kl_k1(given.old, given.reference, given.mask), given.scores, given.lengths, BETA)
    return (rewards, *gae(rewards, given.values, given.mask, GAMMA, LAM))


def test_masked_means_agree_and_none_of_nothing_is_zero(trl: Trl, tune: SimpleNamespace) -> None:
    given = case(RAGGED)
    ours = masked_mean(given.returns, given.mask)
    torch.testing.assert_close(ours, trl.maths.masked_mean(given.returns, given.mask))
    torch.testing.assert_close(ours, tune.masked_mean(given.returns, given.mask))
    nothing = torch.zeros_like(given.mask)
    assert masked_mean(given.returns, nothing) == tune.masked_mean(given.returns, nothing) == 0
    assert trl.maths.masked_mean(given.returns, nothing).isnan()  # different: theirs would spoil a whole step


def test_whitening_agrees_but_for_the_variance(trl: Trl, tune: SimpleNamespace) -> None:
    """Different: ours divides by the deviation of these tokens, theirs by the estimate for a population, n − 1."""
    given = case(RAGGED)
    ours, correction = whiten(given.returns, given.mask), (given.count / (given.count - 1)) ** 0.5
    for theirs in (
        trl.maths.masked_whiten(given.returns, given.mask),
        tune.whiten(given.returns, given.mask, shift_mean=False),
    ):
        torch.testing.assert_close(ours, theirs * given.mask * correction)
    assert float((ours**2).sum() / given.count) == pytest.approx(1.0, abs=1e-5)


def test_torchtune_adds_the_mean_back_to_what_it_whitens(tune: SimpleNamespace) -> None:
    """Different: its ``shift_mean`` is inverted, so that its advantages are not centred. Ours, and TRL's, are."""
    given = case(RAGGED)
    shifted = given.returns + 9.0
    assert float(masked_mean(whiten(shifted, given.mask), given.mask)) == pytest.approx(0.0, abs=1e-5)
    theirs = masked_mean(tune.whiten(shifted, given.mask), given.mask)
    torch.testing.assert_close(theirs, masked_mean(shifted, given.mask))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimates_agree(trl: Trl, tune: SimpleNamespace, estimator: str) -> None:
    given = case(RAGGED)
    ours = {"k1": kl_k1, "k3": kl_k3}[estimator](given.old, given.reference, given.mask)
    args = SimpleNamespace(kl_estimator=estimator)
    theirs = trl.kl(args=args, logprobs=given.old, ref_logprobs=given.reference).kl
    torch.testing.assert_close(ours, theirs * given.mask, atol=1e-6, rtol=1e-5)
    if estimator == "k1":
        torch.testing.assert_close(ours, tune.get_rewards_ppo(given.scores, given.old, given.reference, BETA)[1])


def test_token_rewards_agree_with_torchtune(tune: SimpleNamespace) -> None:
    given = case(RAGGED)
    rewards, _, _ = our_advantages(given)
    theirs, _, _ = tune.get_rewards_ppo(given.scores, given.old, given.reference, BETA, given.lengths - 1)
    torch.testing.assert_close(rewards, theirs)


def test_rewards_advantages_and_returns_of_whole_rows_agree_with_trl(trl: Trl) -> None:
    given = case(FULL)
    theirs = trl_rollout(trl, given)
    rewards, advantages, returns = our_advantages(given)
    torch.testing.assert_close(rewards, theirs.rewards)
    torch.testing.assert_close(returns, theirs.returns)
    correction = (given.count / (given.count - 1)) ** 0.5
    torch.testing.assert_close(whiten(advantages, given.mask), theirs.advantages * correction)


def test_trl_gives_a_short_reply_its_score_one_position_late(trl: Trl) -> None:
    """Different: ours lies on the last token (EOS), theirs on the first padding after it.

    With zero values the last token's return is therefore theirs times γλ: the score decays once more than it should.
    """
    given = case(RAGGED)._replace(values=torch.zeros(4, 6))
    theirs = trl_rollout(trl, given)
    rewards, _, returns = our_advantages(given)
    for row in (1, 2, 3):  # the shorter ones
        last = int(given.lengths[row]) - 1
        leash = -BETA * float(given.old[row, last] - given.reference[row, last])
        assert float(rewards[row, last]) == pytest.approx(leash + float(given.scores[row]))
        assert float(theirs.rewards[row, last]) == pytest.approx(leash, abs=1e-6)
        assert float(theirs.rewards[row, last + 1]) == pytest.approx(float(given.scores[row]), abs=1e-6)
        assert float(returns[row, last]) == pytest.approx(leash + float(given.scores[row]))
        late = leash + GAMMA * LAM * float(given.scores[row])
        assert float(theirs.returns[row, last]) == pytest.approx(late, abs=1e-5)


def test_trl_bootstraps_from_the_value_after_the_end(trl: Trl) -> None:
    """Different: the value past the last token is 0 in ours, and whatever the head says of padding in theirs."""
    given = case(RAGGED)
    beyond = given._replace(values=torch.where(given.mask, given.values, 3.0))
    assert torch.equal(our_advantages(given)[2], our_advantages(beyond)[2])
    ended = int(given.lengths[1]) - 1
    before, after = trl_rollout(trl, given).returns[1, ended], trl_rollout(trl, beyond).returns[1, ended]
    assert abs(float(before - after)) > 0.1


@pytest.mark.parametrize("lengths", [FULL, RAGGED], ids=["whole", "ragged"])
def test_gae_agrees_with_torchtune(tune: SimpleNamespace, lengths: Tensor) -> None:
    given = case(lengths)
    rewards, advantages, returns = our_advantages(given)
    theirs, their_returns = tune.estimate_advantages(given.values, rewards, GAMMA, LAM, given.mask)
    torch.testing.assert_close(returns, their_returns * given.mask)
    torch.testing.assert_close(advantages, (their_returns - given.values) * given.mask)
    # Its own whitening, without the mean that it adds back (see above) and with its variance.
    centred = (theirs - masked_mean(advantages, given.mask)) * given.mask
    correction = (given.count / (given.count - 1)) ** 0.5
    torch.testing.assert_close(whiten(advantages, given.mask), centred * correction, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [FULL, RAGGED], ids=["whole", "ragged"])
def test_policy_losses_agree_with_their_gradients(trl: Trl, tune: SimpleNamespace, lengths: Tensor) -> None:
    given = case(lengths)
    new = given.new.clone().requires_grad_()
    ours = policy_loss(new, given.old, given.advantages, given.mask, CLIP)
    (gradient,) = torch.autograd.grad(ours.loss / given.count, new)
    assert 0 < ours.clipped < given.count  # both branches are exercised
    theirs = trl_losses(trl, given._replace(new=new))
    stats = trl_figures(trl, given, theirs)
    _, _, _, _, tune_clipped = tune_losses(tune, given)
    torch.testing.assert_close(ours.loss / given.count, theirs.pg_loss)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs.pg_loss, new)[0])
    torch.testing.assert_close(ours.loss / given.count, tune_losses(tune, given)[1])
    for fraction in (stats.pg_clipfrac, tune_clipped):
        torch.testing.assert_close(ours.clipped / given.count, fraction)


def trl_figures(trl: Trl, given: Case, losses: SimpleNamespace) -> SimpleNamespace:
    """TRL's figures beside the losses."""
    names = ("pg_losses", "pg_losses2", "padding_mask", "micro_batch_inds", "masked_mean", "logprobs_diff")
    return trl.figures(logits=torch.zeros(*given.mask.shape, 5), **{name: vars(losses)[name] for name in names})


def tune_losses(tune: SimpleNamespace, given: Case) -> tuple[Tensor, ...]:
    """torchtune's loss, policy loss, value loss, ratio and clip fraction."""
    return tune.loss(
        given.old, given.new, given.advantages, given.values, given.new_values, given.returns, given.mask, given.mask
    )


@pytest.mark.parametrize("lengths", [FULL, RAGGED], ids=["whole", "ragged"])
def test_value_losses_agree(trl: Trl, tune: SimpleNamespace, lengths: Tensor) -> None:
    given = case(lengths)
    ours, clipped = value_loss(given.new_values, given.values, given.returns, given.mask, VALUE_CLIP)
    theirs = trl_losses(trl, given)
    torch.testing.assert_close(ours / given.count, theirs.vf_loss)
    torch.testing.assert_close(ours / given.count, tune_losses(tune, given)[2])
    torch.testing.assert_close(clipped / given.count, theirs.vf_clipfrac)
    assert 0 < clipped < given.count


def test_trl_and_torchtune_count_padding_in_figures_that_ours_leave_it_out_of(trl: Trl, tune: SimpleNamespace) -> None:
    """Different: TRL's approximate KL is half the squared log-ratio over all positions, ours is k3 over the valid."""
    given = case(RAGGED)
    given = given._replace(new=given.old + 0.01 * (given.new - given.old))  # so small a step that both are quadratic
    ours = policy_loss(given.new, given.old, given.advantages, given.mask, CLIP)
    diluted = float(ours.approx_kl) / given.mask.numel()
    stats = trl_figures(trl, given, trl_losses(trl, given))
    assert float(stats.approxkl) == pytest.approx(diluted, rel=0.02)
    ratio = (ours.ratio + (~given.mask).sum()) / given.mask.numel()
    torch.testing.assert_close(tune_losses(tune, given)[3], ratio)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_agree(trl: Trl, tune: SimpleNamespace, temperature: float) -> None:
    """Different: TRL divides by T + 1e-7, ours by T; the gap is rounding."""
    torch.manual_seed(1)
    logits, responses = 3 * torch.randn(4, 9, 50), torch.randint(50, (4, 6))
    ours = token_logprobs(logits[:, 2:-1], responses, temperature)
    torch.testing.assert_close(ours, tune.logits_to_logprobs(logits[:, 2:-1], responses, temperature))
    theirs = trl.logprobs(
        args=SimpleNamespace(temperature=temperature),
        output=SimpleNamespace(logits=logits.clone()),
        context_length=3,
        mb_responses=responses,
        padding_mask=torch.zeros(4, 6, dtype=torch.bool),
        micro_batch_inds=torch.arange(4),
        INVALID_LOGPROB=1.0,
    ).new_logprobs
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_ours_are_float32_whatever_the_logits(tune: SimpleNamespace) -> None:
    """Different: torchtune's log-softmax is as coarse as the logits it is given."""
    torch.manual_seed(2)
    logits, responses = (3 * torch.randn(4, 6, 500)).bfloat16(), torch.randint(500, (4, 6))
    exact = logits.double().log_softmax(-1).gather(-1, responses[..., None]).squeeze(-1)
    assert float((token_logprobs(logits, responses) - exact).abs().max()) < 1e-5
    assert float((tune.logits_to_logprobs(logits, responses) - exact).abs().max()) > 1e-3


def test_trl_takes_a_pad_token_inside_a_prompt_for_padding(trl: Trl) -> None:
    """Different: ours masks by length. Where a tokenizer pads with EOS, theirs hides the ends of earlier turns."""
    pad, prompt, reply = 2, [5, 2, 7], [8, 2]  # a turn that ended, the next one, and a reply with its EOS
    ours = collate([prompt], [reply], pad)
    assert torch.cat([ours.prompt_mask, ours.response_mask], 1).all()
    seen: dict[str, Any] = {}
    trl.forward(lambda **given: seen.update(given), tensor([prompt + reply]), pad)
    assert seen["attention_mask"].tolist() == [[True, False, True, True, False]]
