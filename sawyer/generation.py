"""Batched decoding over one backbone: rows of any stage and sampling in one batch, a step at a time.

Randomness belongs to the row: its uniform numbers come from its own seed, and a token is drawn by inverting the
cumulative distribution. The same seed gives the same text whatever else is in the batch. Nothing of the
checkpoint's generation config (top-k, penalties, …) is applied (PPO detail 3).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sawyer.errors import ModelError
from sawyer.models import Policy
from sawyer.readers import DecoderReader, EncoderDecoderReader


@dataclass(frozen=True)
class Row:
    """One reply to be made.

    Attributes:
        prompt: token ids, not empty.
        stage: which adapter answers.
        max_tokens: longest reply, EOS included.
        temperature: 0 is greedy.
        top_p: nucleus; 1 leaves the distribution as it is.
        seed: of the row's own uniform numbers.
        stop: texts that end the reply; they are cut off it.
        top_logprobs: how many of the likeliest tokens to report at every place.
    """

    prompt: Sequence[int]
    stage: str
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0


class Token(NamedTuple):
    """One step of one row. ``finish`` is None, ``stop`` (EOS or a stop text) or ``length``.

    ``top`` holds the likeliest tokens as (id, log-probability), likeliest first, if the row asked for them.
    """

    row: int
    id: int
    logprob: float
    finish: str | None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Generation:
    """A finished reply: ``ids`` with the EOS if there was one, text without it."""

    ids: list[int]
    text: str
    finished: bool
    logprobs: list[float]


def row_seed(seed: int, index: int) -> int:
    """The seed of a row of a batch: independent streams for neighbouring seeds and indices."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=7).digest(), "big")


def generate(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    *,
    stage: str,
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
) -> list[Generation]:
    """Make one reply to every prompt. Decoding ends when all rows have ended.

    Raises:
        ModelError: an unknown stage, or a prompt that leaves no room in the context.
    """
    rows = rows_of(
        prompts, stage=stage, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop
    )
    tokens: list[list[Token]] = [[] for _ in rows]
    for step in decode(policy, rows):
        for token in step:
            tokens[token.row].append(token)
    return [finish_generation(policy, row, made) for row, made in zip(rows, tokens, strict=True)]


def rows_of(
    prompts: Sequence[Sequence[int]],
    *,
    stage: str,
    max_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
) -> list[Row]:
    """A row for each prompt, with a seed of its own."""
    return [
        Row(prompt, stage, max_tokens, temperature, top_p, row_seed(seed, index), tuple(stop))
        for index, prompt in enumerate(prompts)
    ]


def finish_generation(policy: Policy, row: Row, made: Sequence[Token]) -> Generation:
    """Collect a row's tokens; text after a stop text is cut."""
    ids = [token.id for token in made]
    text = policy.tokenizer.decode(ids, skip_special_tokens=True)
    for stop in row.stop:  # before white space is stripped: a stop text may begin with some
        text = text.split(stop)[0]
    finished = bool(made) and made[-1].finish == "stop"
    return Generation(ids, text.strip(), finished, [token.logprob for token in made])


@torch.inference_mode()
def decode(policy: Policy, rows: Sequence[Row], cancelled: set[int] | None = None) -> Iterator[list[Token]]:
    """Decode rows together, yielding after each step one token of every row that is still alive.

    Rows of one stage run under that adapter; mixed rows run in one forward with per-row adapters. A row index put
    into ``cancelled`` by the caller leaves the batch before the next step.
    """
    check_rows(policy, rows)
    if not rows:
        return
    stages = [row.stage for row in rows]
    uniforms = [torch.rand(row.max_tokens, generator=torch.Generator().manual_seed(row.seed)) for row in rows]
    reader = (EncoderDecoderReader if policy.is_encoder_decoder else DecoderReader)(policy, [r.prompt for r in rows])
    alive = list(range(len(rows)))
    made: list[list[int]] = [[] for _ in rows]
    while alive:
        logits = reader.read([stages[i] for i in alive])
        steps = [len(made[i]) for i in alive]
        draw = torch.stack([uniforms[i][t] for i, t in zip(alive, steps, strict=True)]).to(policy.device)
        chosen, logprobs = choose(logits, [rows[i] for i in alive], draw)
        tops = likeliest(logits, [rows[i] for i in alive])
        step = []
        for place, i in enumerate(alive):
            made[i].append(chosen[place])
            finish = finish_reason(policy, rows[i], made[i])
            step.append(Token(i, chosen[place], logprobs[place], finish, tops[place]))
        yield step
        gone = cancelled or ()
        keep = [p for p, token in enumerate(step) if token.finish is None and token.row not in gone]
        reader.follow(keep, [chosen[p] for p in keep])
        alive = [alive[p] for p in keep]


def check_rows(policy: Policy, rows: Sequence[Row]) -> None:
    """Raise ModelError for an unknown stage, an empty prompt, or one that leaves no room for a reply."""
    for row in rows:
        policy.check_stage(row.stage)
        if not row.prompt:
            raise ModelError("The prompt has no tokens: give at least one message with text.")
        if len(row.prompt) + row.max_tokens > policy.context:
            raise ModelError(
                f"The prompt has {len(row.prompt)} tokens and {row.max_tokens} were asked for, but the context holds "
                f"{policy.context}. Shorten the prompt or lower max_tokens."
            )


def choose(logits: Tensor, rows: Sequence[Row], uniform: Tensor) -> tuple[list[int], list[float]]:
    """Pick each row's next token and its log-probability under the row's temperature.

    Args:
        logits: ``[rows, V]`` of the last position.
        rows: their sampling settings.
        uniform: ``[rows]`` in [0, 1), each row's number of this step.
    """
    greedy = torch.tensor([row.temperature == 0 for row in rows], device=logits.device)
    heat = torch.tensor([row.temperature or 1.0 for row in rows], device=logits.device)
    logprobs = (logits.float() / heat[:, None]).log_softmax(-1)
    if bool(greedy.all()):
        chosen = logprobs.argmax(-1)
    else:
        tops = [row.top_p for row in rows]
        nucleus = logprobs if min(tops) >= 1 else _nucleus(logprobs, torch.tensor(tops, device=logits.device))
        total = nucleus.double().exp().cumsum(-1)
        point = uniform.double()[:, None] * total[:, -1:]
        drawn = torch.searchsorted(total, point, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
        chosen = torch.where(greedy, logprobs.argmax(-1), drawn)
    picked = logprobs.gather(-1, chosen[:, None]).squeeze(-1)
    return chosen.tolist(), picked.tolist()


def likeliest(logits: Tensor, rows: Sequence[Row]) -> list[tuple[tuple[int, float], ...]]:
    """Each row's likeliest tokens, as many as it asked for, with log-probabilities under its temperature."""
    most = min(max(row.top_logprobs for row in rows), logits.shape[-1])
    if most == 0:
        return [()] * len(rows)
    heat = torch.tensor([row.temperature or 1.0 for row in rows], device=logits.device)
    values, ids = (logits.float() / heat[:, None]).log_softmax(-1).topk(most, dim=-1)
    return [
        tuple(zip(some[: row.top_logprobs], logprobs[: row.top_logprobs], strict=True))
        for row, some, logprobs in zip(rows, ids.tolist(), values.tolist(), strict=True)
    ]


def _nucleus(logprobs: Tensor, top_p: Tensor) -> Tensor:
    """Drop the tokens outside the smallest set whose probability reaches top_p (the first one always stays)."""
    ordered, index = logprobs.sort(-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    dropped = before >= top_p[:, None].clamp_min(1e-9)
    dropped[:, 0] = False
    return logprobs.masked_fill(torch.zeros_like(dropped).scatter(-1, index, dropped), float("-inf"))


def finish_reason(policy: Policy, row: Row, made: Sequence[int]) -> str | None:
    """Why a row ends with its newest token, ``stop`` or ``length``; None while it goes on."""
    if made[-1] in policy.eos_ids:
        return "stop"
    if row.stop and policy.may_end(made[-1], row.stop):
        # A stop text is a few tokens long: the tail is enough to see it end.
        tail = policy.tokenizer.decode(made[-16:], skip_special_tokens=False)
        if any(stop in tail for stop in row.stop):
            return "stop"
    return "length" if len(made) >= row.max_tokens else None
