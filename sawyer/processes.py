"""Several processes on one training run, as `accelerate launch` and `torchrun` start them: refused so far."""

import os
from collections.abc import Mapping

from sawyer.errors import UsageError

# What each launcher says of the number of processes; accelerate reads the last three where MPI starts CPU processes.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def require_one_process(environment: Mapping[str, str] | None = None) -> None:
    """Refuse to train as one of several processes: each would train the whole, in one folder with the others.

    Args:
        environment: where launchers leave their word; default: this process's.

    Raises:
        UsageError: a launcher started more than one process.
    """
    said = os.environ if environment is None else environment
    # A cluster may set WORLD_SIZE for reasons of its own; a launcher sets LOCAL_RANK with it.
    if said.get("WORLD_SIZE", "1") != "1" and "LOCAL_RANK" not in said:
        said = {name: value for name, value in said.items() if name != "WORLD_SIZE"}
    name = next((name for name in SIZES if said.get(name, "1").strip() not in ("", "1")), None)
    if name is not None:
        raise UsageError(
            f"This is one of {said[name]} processes that a launcher started ({name}), and SAWYER trains in one process "
            "on one GPU: start it without accelerate launch or torchrun. For a model that does not fit, set "
            "model.quantization: nf4 and the section's gradient_checkpointing, or take a larger GPU; with several "
            "GPUs, run several recipes or methods at a time, each with its own CUDA_VISIBLE_DEVICES and --home "
            "(docs/scaling.md)."
        )
