"""Replies of one stage, its adapter added to a copy of the weights: for rollouts, where it changes at every step."""

from collections.abc import Sequence

from sawyer.fused import can_merge
from sawyer.generation import Generation, Row, Token, finish_generation
from sawyer.models import Policy
from sawyer.ragged.batch import Arrival, RaggedBatch
from sawyer.ragged.forward import can_run_ragged
from sawyer.ragged.lean import can_run_lean

PIECE = 4096  # tokens of prompts read at once: nobody is waiting for a first token here


def can_run_merged(policy: Policy, stage: str) -> bool:
    """Whether ``generate_merged`` can be asked."""
    return can_run_ragged(policy) and can_run_lean(policy) and can_merge(policy.model, stage)


def generate_merged(policy: Policy, rows: Sequence[Row]) -> list[Generation]:
    """One reply to every row, all of one stage, as ``sawyer.generation.generate`` makes them but for rounding.

    The weights are rounded to their own precision once the adapter is in them; the policy is left as it is.

    Raises:
        ModelError: a prompt that leaves no room in the context.
    """
    if not rows:
        return []
    longest = max(len(row.prompt) + row.max_tokens for row in rows)
    batch = RaggedBatch(
        policy,
        merged=rows[0].stage,
        max_rows=len(rows),
        max_tokens=len(rows) * longest,
        longest=longest,
        piece=PIECE,
    )
    made: list[list[Token]] = [[] for _ in rows]
    for number, row in enumerate(rows):
        batch.join(Arrival(number, row, None))
    while batch.running:
        for key, token in batch.step():
            made[key].append(token)  # type: ignore[index]
    return [finish_generation(policy, row, tokens) for row, tokens in zip(rows, made, strict=True)]
