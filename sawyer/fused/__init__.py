"""Forward and backward passes of a LoRA policy written out by hand, for training on a CPU.

The parts of a decoder in which autograd spends its time beside the large products (LoRA, normalisation, gating,
attention) become one autograd function each: they keep less for the backward pass, read it from the cache, and work in
the weights' own precision. The arithmetic is that of transformers and PEFT; :func:`fuse` puts it into a policy.
"""

from sawyer.fused.install import KINDS, can_fuse, can_merge, fuse, lora_layers, merged, merged_weight
from sawyer.fused.layers import more_than_lora

__all__ = ["KINDS", "can_fuse", "can_merge", "fuse", "lora_layers", "merged", "merged_weight", "more_than_lora"]
