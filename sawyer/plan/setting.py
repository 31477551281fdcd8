"""In which precision and by which code a backbone runs on a device: what every formula of the plan depends on.

The counterpart of ``sawyer.compute`` and ``sawyer.backbone``, without torch.
"""

from dataclasses import dataclass

from sawyer.plan.device import Device
from sawyer.plan.ledger import Item, item
from sawyer.plan.shape import Shape
from sawyer.recipe import Recipe

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in NF4 with double quantisation: four bits, and for each block of 64 a scale in 8 bits, of which
256 share one in float32 (Dettmers et al. 2023, "QLoRA", section 3)."""


@dataclass(frozen=True)
class Setting:
    """A backbone on a device.

    Attributes:
        weight: bytes of a weight that is not quantised, as the backbone is loaded.
        compute: bytes of a number in the forward passes of training.
        nf4: whether the linear layers are quantised.
        attention: as ``model.attention`` has it.
    """

    shape: Shape
    device: Device
    weight: int
    compute: int
    nf4: bool
    attention: str = "auto"

    @classmethod
    def of(cls, recipe: Recipe, shape: Shape, device: Device) -> "Setting":
        """As ``sawyer.backbone.load_backbone`` loads and ``sawyer.compute.compute_dtype`` computes."""
        dtype = recipe.model.dtype
        if dtype != "auto":
            weight = compute = BYTES[dtype]
        else:
            # On a GPU the checkpoint's own; on a CPU float32.
            weight = 4 if device.kind == "cpu" else BYTES.get(shape.stored, 4)
            compute = 2 if device.bf16 or device.kind == "cuda" else 4
        return cls(shape, device, weight, compute, recipe.model.quantization == "nf4", recipe.model.attention)

    @property
    def cpu(self) -> bool:
        """Whether it runs on a processor."""
        return self.device.kind == "cpu"

    @property
    def fused(self) -> bool:
        """Whether PPO runs by ``sawyer.fused``: frozen weights in the precision of the passes, hand-written layers."""
        return self.cpu and not self.nf4 and self.shape.kind == "decoder"

    def backbone(self, each: int | None = None) -> tuple[Item, ...]:
        """The frozen weights, ``each`` bytes a weight where they are not quantised."""
        shape, width = self.shape, each or self.weight
        rest = shape.embeddings + shape.small
        if not self.nf4:
            return (item("backbone", width * shape.weights, f"{shape.weights / 1e6:,.0f} M weights of {width} bytes"),)
        return (
            item(
                "backbone, NF4", NF4 * shape.linear_weights, f"{shape.linear_weights / 1e6:,.0f} M weights of 4.13 bits"
            ),
            item(
                "backbone, not quantised", width * rest, f"embeddings, output layer and norms: {width} bytes a weight"
            ),
        )

    @property
    def mapped(self) -> bool:
        """Whether the weights are the file itself, mapped: on a CPU, a checkpoint of the precision it is loaded in.

        It stays, as a whole, as long as one tensor of it is used.
        """
        return self.cpu and not self.nf4 and BYTES.get(self.shape.stored, 4) == self.weight

    def unpacked(self) -> int:
        """Bytes of the largest linear layer in the precision of the passes: NF4 unpacks one at a time."""
        return max(one.inputs * one.outputs for one in self.shape.linears) * self.compute if self.nf4 else 0

    def rounded_weights(self) -> int:
        """Copies of the frozen weights that autocast makes and the backward pass keeps, in bytes.

        Autocast keeps no copy of frozen weights between layers, but a product that hands a gradient on keeps the
        weight it was made with: where weights are wider than the passes, that is a copy of all of them.
        """
        if self.nf4 or self.weight == self.compute:
            return 0
        head = self.shape.embedding
        return self.compute * (self.shape.linear_weights + head)


def adapter_weights(recipe: Recipe, shape: Shape) -> int:
    """Weights of one adapter of the recipe, the modules that it trains whole left out."""
    return shape.adapter(recipe.lora.r, recipe.lora.target)


def reserve(device: Device, moving: int) -> Item:
    """What nobody asked for: the device's context and libraries, and gaps between tensors.

    ``moving`` is the bytes that come and go. CUDA's context with cuBLAS and its workspace takes some 0.6 GB; the
    caching allocator's gaps are allowed for with an eighteenth of what moves. On a CPU with glibc's large allocations
    mapped one by one there are next to none; oneDNN's compiled kernels, the tokenizer and small objects take 22 to 28
    MiB whatever the model (measured at 60 M weights).
    """
    if device.kind == "cpu":
        return item("libraries, gaps", 24 * 2**20 + 0.005 * moving, "kernels, tokenizer, small objects")
    return item("CUDA, gaps", 0.6e9 + moving / 18, "context, cuBLAS, gaps between tensors")
