"""The backbone's weights: from the hub or a folder, in full precision or NF4."""

from pathlib import Path
from typing import Any

import torch

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
    if spec.dtype != "auto":
        options["dtype"] = getattr(torch, spec.dtype)
    else:
        options["dtype"] = torch.float32 if device.type == "cpu" else "auto"
    if spec.quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if options["dtype"] == "auto" else options["dtype"],
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


def _keep_differentiable(model: Any) -> None:
    """Without this, bitsandbytes packs 4-bit weights for AVX-512 BF16 at their first use without gradients.

    From then on the product passes no gradient to its input: after a generation or an evaluation, training would
    reach only the adapters beside the last products, and say nothing (bitsandbytes 0.50, CPU only).
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
