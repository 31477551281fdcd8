"""A random two-layer model with an sft and an rlf adapter that differ from it and from each other."""

from pathlib import Path

import torch

from sawyer.models import Policy
from sawyer.recipe import LoraSpec, ModelSpec
from tests.train.makers import CONTEXT, make_backbone

SPEC = ModelSpec(backbone="here", context=CONTEXT, dtype="float32")


def make_stages(folder: Path) -> dict[str, Path]:
    """Write base/, sft/ and rlf/ and return their folders by stage."""
    torch.set_num_threads(1)
    make_backbone(folder / "base")
    policy = Policy.load(folder / "base", spec=SPEC, device="cpu")
    for seed, stage in enumerate(("sft", "rlf")):
        policy.add_adapter(stage, LoraSpec(r=4, alpha=8))
        torch.manual_seed(seed)
        for parameter in policy.parameters_of(stage):
            torch.nn.init.normal_(parameter, std=0.3)
        policy.save_adapter(stage, folder / stage)
    return {stage: folder / stage for stage in ("base", "sft", "rlf")}


def load(stages: dict[str, Path]) -> Policy:
    adapters = {stage: path for stage, path in stages.items() if stage != "base"}
    return Policy.load(stages["base"], adapters, spec=SPEC, device="cpu")
