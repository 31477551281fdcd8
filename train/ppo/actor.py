"""The actor: the trained stage, its reference and its value head on one backbone, and their forward passes.

One method makes every forward pass of PPO. Old, new and reference log-probabilities therefore agree in alignment,
precision and temperature: with equal adapters the KL is exactly 0, and the first ratio of an update exactly 1.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from sawyer.compute import autocast, compute_dtype
from sawyer.errors import ModelError
from sawyer.fused import can_fuse, fuse
from sawyer.generation import Generation, generate, rows_of
from sawyer.loading import OWN_BACKBONE
from sawyer.logprobs import Batch, entropy, response_logits, token_logprobs
from sawyer.models import Policy
from sawyer.ragged import can_run_merged, generate_merged
from sawyer.recipe import PpoSpec, Recipe
from sawyer.runs import MANIFEST

STAGE, START = "rlf", "start"


class Forward(NamedTuple):
    """What a forward pass over B episodes gives, each float32 [B, R]; meaningless outside the response mask."""

    logprobs: Tensor
    values: Tensor
    entropy: Tensor | None


class Actor:
    """``rlf``, the stage it started from, and a value head on the last hidden state.

    Args:
        policy: has the adapter ``rlf`` already.
        reference: the stage ``rlf`` started from: ``sft``, or ``base`` where the recipe has no sft.
        temperature: of sampling, and therefore of every log-probability.
        dtype: precision of the forward passes; log-probabilities and values are float32.
        checkpointing: keep each layer's input alone while learning, and make the rest again in the backward pass.

    On a CPU a decoder-only policy is held in that precision and runs by the functions of ``sawyer.fused``, unless it
    trains modules whole, for these functions give no gradient to a norm; elsewhere autocast sees to the precision.
    """

    def __init__(
        self,
        policy: Policy,
        reference: str,
        *,
        temperature: float,
        dtype: torch.dtype,
        checkpointing: bool = False,
    ) -> None:
        self.policy, self.reference, self.temperature, self.dtype = policy, reference, temperature, dtype
        self.fused = can_fuse(policy)
        if self.fused:
            fuse(policy.model, dtype)
        config = policy.model.config
        self._decoder_start = config.decoder_start_token_id if policy.is_encoder_decoder else None
        self.value_head = nn.Linear(config.get_text_config(decoder=True).hidden_size, 1).to(policy.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        # Evaluation mode throughout: an adapter may bring a dropout of its own, and new modules start in train mode.
        policy.model.eval()
        self._checkpointed: list[nn.Module] = []
        if checkpointing:
            policy.model.gradient_checkpointing_enable({"use_reentrant": False})
            self._checkpointed = [m for m in policy.model.modules() if isinstance(m, GradientCheckpointingLayer)]

    @classmethod
    def load(cls, recipe: Recipe, backbone: Path | str, sft: Path | None, start: Path | None = None) -> "Actor":
        """Load the backbone with ``rlf`` as a copy of ``start``, else of ``sft``, or as a fresh adapter (whose output
        is zero). The reference is ``sft`` or the backbone, wherever ``rlf`` starts.
        """
        assert recipe.ppo is not None
        torch.manual_seed(recipe.seed)  # a fresh adapter's first factor is random
        found = {stage: folder for stage, folder in (("sft", sft), (START, start)) if folder}
        policy = Policy.load(backbone, found, spec=recipe.model)
        _check_room(recipe.ppo, policy, backbone)
        for stage, folder in found.items():
            check_made_for(folder, policy, backbone, stage)
        policy.add_adapter(STAGE, recipe.lora, copy_of=next(iter(reversed(found)), None))
        if start:
            policy.drop_adapter(START)
        dtype = compute_dtype(recipe.model, policy.device)
        return cls(
            policy,
            "sft" if sft else "base",
            temperature=recipe.ppo.temperature,
            dtype=dtype,
            checkpointing=recipe.ppo.gradient_checkpointing,
        )

    def parameters(self) -> list[nn.Parameter]:
        """What PPO trains: the adapter of ``rlf``, then the value head."""
        return [*self.policy.parameters_of(STAGE), *self.value_head.parameters()]

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Inside, the adapter of ``rlf`` (and nothing else of the policy) collects gradients."""
        # transformers checkpoints layers in train mode only. What lies in the layer keeps its mode.
        for layer in self._checkpointed:
            layer.training = True
        try:
            with self.policy.using(STAGE, train=True):
                yield
        finally:
            for layer in self._checkpointed:
                layer.training = False

    def reply(self, prompts: Sequence[Sequence[int]], **sampling: Any) -> list[Generation]:
        """One reply of ``rlf`` to every prompt; ``sampling`` as ``sawyer.generation.generate`` takes it.

        On a CPU its adapter is added to the weights for that: a step of a few rows then costs little more than reading
        them. The log-probabilities differ from the adapter's by rounding.
        """
        if self.fused and can_run_merged(self.policy, STAGE):
            return generate_merged(self.policy, rows_of(prompts, stage=STAGE, **sampling))
        with self.policy.merged(STAGE) if self.fused else nullcontext():
            return generate(self.policy, prompts, stage=STAGE, **sampling)

    def measure(self, batch: Batch, *, entropies: bool = False) -> Forward:
        """Log-probabilities and values of the responses under ``rlf``; gradients flow inside :meth:`learning`."""
        with self.policy.using(STAGE, train=torch.is_grad_enabled()):
            logits, hidden = self._logits(batch)
        # Outside autocast: the head is float32, whatever the precision of the trunk.
        values = self.value_head(hidden.float()).squeeze(-1)
        logprobs = token_logprobs(logits, batch.responses, self.temperature)
        return Forward(logprobs, values, entropy(logits, self.temperature) if entropies else None)

    @torch.no_grad()
    def measure_reference(self, batch: Batch) -> Tensor:
        """Log-probabilities [B, R] of the responses under the stage ``rlf`` started from."""
        with self.policy.using(self.reference):
            logits, _ = self._logits(batch)
        return token_logprobs(logits, batch.responses, self.temperature)

    def to_device(self, batch: Batch) -> Batch:
        """The batch where the policy lies."""
        return Batch(*(tensor.to(self.policy.device) for tensor in batch))

    def _logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with nullcontext() if self.fused else autocast(self.policy.device, self.dtype):
            return response_logits(self.policy.model, batch, decoder_start=self._decoder_start)


def _check_room(spec: PpoSpec, policy: Policy, backbone: Path | str) -> None:
    """The recipe knows its own context; that the backbone has fewer positions shows only when it is loaded."""
    if spec.max_prompt + spec.max_new_tokens > policy.context:
        raise ModelError(
            f"ppo.max_prompt {spec.max_prompt} + ppo.max_new_tokens {spec.max_new_tokens} leave prompts no room for a "
            f"reply: the backbone {backbone} takes {policy.context} tokens. Lower one of the two."
        )


def check_made_for(folder: Path, policy: Policy, backbone: Path | str, stage: str = "sft") -> None:
    """An adapter loads into any backbone of its shapes; the registry's manifest tells which one it was trained on."""
    file = folder / MANIFEST
    manifest = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    made_for = manifest.get("info", {}).get("backbone") or manifest.get("backbone")
    if made_for not in (None, policy.fingerprint):
        raise ModelError(
            f"The adapter of stage {stage} in {folder} was made for another backbone than {backbone} (fingerprints "
            f"{made_for} and {policy.fingerprint}). {OWN_BACKBONE}"
        )
