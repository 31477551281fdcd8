"""The backbone's weights: from the hub or a folder, in full precision or NF4."""

from pathlib import Path
from typing import Any

import torch

from sawyer.compute import compute_dtype, has_fast_bf16
from sawyer.errors import ModelError
from sawyer.loading import reading, refuse_pickle
from sawyer.recipe import ModelSpec


def load_backbone(name: str, config: Any, spec: ModelSpec, device: torch.device) -> Any:
    """The transformers model of a hub id or folder on ``device``, frozen, quantised as ``spec`` says.

    Raises:
        ModelError: it is not to be had, not readable, or its weights are pickled.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, BitsAndBytesConfig

    if Path(name).is_dir():
        refuse_pickle(Path(name))
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    options: dict[str, Any] = {"config": config, "use_safetensors": True, "trust_remote_code": spec.trust_remote_code}
    if spec.attention != "auto":
        options["attn_implementation"] = spec.attention
    options["dtype"] = _dtype(config, spec, device)
    if spec.quantization == "nf4":
        _check_bitsandbytes(device)
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype(spec, device) if options["dtype"] == "auto" else options["dtype"],
        )
        options["device_map"] = {"": device}
    with reading("backbone", name, "model.backbone"):
        model = kind.from_pretrained(name, revision=spec.revision, **options)
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    if head is not None:  # the last position of every row is a slice: torch would copy the head's weight for each row
        head.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
    if spec.quantization != "nf4":
        return model.to(device)
    _keep_differentiable(model)
    return model


def _dtype(config: Any, spec: ModelSpec, device: torch.device) -> Any:
    """Precision of the weights: the recipe's; for ``auto`` float32 on a CPU and the checkpoint's own on a GPU, but
    float16 where that is bfloat16 and the GPU has none.
    """
    if spec.dtype != "auto":
        return getattr(torch, spec.dtype)
    if device.type == "cpu":
        return torch.float32
    stored = getattr(config, "dtype", None)
    return torch.float16 if stored == torch.bfloat16 and not has_fast_bf16(device) else "auto"


def _check_bitsandbytes(device: torch.device) -> None:
    """Raise ModelError unless bitsandbytes can quantise on ``device``."""
    cure = "Install a build for this device, or set model.quantization to none (`sawyer plan` says whether that fits)."
    if device.type not in ("cpu", "cuda", "xpu"):
        raise ModelError(f"model.quantization nf4 needs bitsandbytes, which does not run on {device.type}. {cure}")
    try:
        from bitsandbytes.cextension import lib
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model.quantization nf4 needs bitsandbytes, which cannot be imported here ({reason}). {cure}"
        ) from error
    if device.type != "cpu" and type(lib).__name__.startswith("ErrorHandler"):
        built = torch.version.cuda or torch.version.hip or "no GPU"
        raise ModelError(
            f"model.quantization nf4 needs bitsandbytes, whose library for this GPU is missing (torch is built for "
            f"{built}). {cure}"
        )


def _keep_differentiable(model: Any) -> None:
    """Without this, bitsandbytes packs 4-bit weights for AVX-512 BF16 at their first use without gradients.

    From then on the product passes no gradient to its input: after a generation or an evaluation, training would
    reach only the adapters beside the last products, and say nothing (bitsandbytes 0.50, CPU only).
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
