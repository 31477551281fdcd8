"""``Policy``: one frozen backbone, loaded once, with a LoRA adapter for each stage that has been trained.

A stage is an adapter; ``base`` is the backbone with adapters disabled. PEFT's ``set_adapter`` acts on the whole
model and flips ``requires_grad``, so ``Policy.using`` is its only caller.
"""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sawyer.backbone import load_backbone
from sawyer.chat import ChatFormat
from sawyer.compute import pick_device
from sawyer.errors import ModelError
from sawyer.fused import can_merge, lora_layers, merged
from sawyer.loading import (
    explain_foreign,
    explain_unreadable,
    left_out,
    load_config,
    load_tokenizer,
    refuse_pickle,
)
from sawyer.recipe import LoraSpec, ModelSpec
from sawyer.whole import let_rows_differ, whole_modules


class Policy:
    """The backbone, its tokenizer and its adapters.

    Build one with ``Policy.load``. ``model`` is the transformers model, wrapped by PEFT as soon as there is an
    adapter; ``stages`` names what can be asked (``base`` always).
    """

    def __init__(self, model: Any, tokenizer: Any, spec: ModelSpec, fingerprint: str) -> None:
        self.model, self.tokenizer, self.spec, self.fingerprint = model, tokenizer, spec, fingerprint
        self._generation = model.generation_config  # asked for every token: PEFT's wrapping takes 40 µs to find it
        self.is_encoder_decoder: bool = bool(model.config.is_encoder_decoder)
        self.chat = ChatFormat(tokenizer, spec.chat, encoder_decoder=self.is_encoder_decoder)
        positions = getattr(model.config, "max_position_embeddings", None) or spec.context
        self.context: int = min(spec.context, positions)
        self._adapters: dict[str, list[torch.nn.Parameter]] = {}
        self._texts: dict[int, str] = {}  # of single tokens, as they are asked for
        self._layers: list[Any] = []  # those that PEFT has put in
        self._active, self._training = None, False
        self._merged = ""

    @classmethod
    def load(
        cls,
        backbone: str | Path,
        adapters: Mapping[str, Path] | None = None,
        *,
        spec: ModelSpec,
        device: torch.device | str | None = None,
    ) -> "Policy":
        """Load a backbone by hub id or folder, and adapters by stage.

        Weights are held in the recipe's dtype; ``auto`` is float32 on a CPU and the checkpoint's own on a GPU.
        Dropout is zeroed in the config: two forward passes in train mode must agree (PPO detail 15), and T5 reads
        its rate from the config in functional calls.

        Raises:
            ModelError: absent, gated, corrupt, pickled, or made for another backbone.
        """
        where = device if isinstance(device, torch.device) else pick_device(device)
        config = load_config(backbone, spec)
        tokenizer = load_tokenizer(spec.tokenizer or backbone, spec)
        model = load_backbone(str(backbone), config, spec, where)
        policy = cls(model, tokenizer, spec, fingerprint(backbone, config))
        for stage, folder in (adapters or {}).items():
            policy.load_adapter(stage, Path(folder))
        model.eval()
        return policy

    @property
    def stages(self) -> tuple[str, ...]:
        """``base`` and the stages that have an adapter."""
        return ("base", *self._adapters)

    @property
    def device(self) -> torch.device:
        """Where the backbone lies."""
        return self.model.device

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a reply: the tokenizer's EOS and those of the checkpoint's generation config."""
        listed = self._generation.eos_token_id if self._generation else None
        more = listed if isinstance(listed, list) else [] if listed is None else [listed]
        return frozenset([self.chat.eos_id, *more])

    def may_end(self, token: int, stops: Sequence[str]) -> bool:
        """Whether one of these texts could end with this token: it holds a text's last character, or a part of one."""
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = self.tokenizer.decode([token], skip_special_tokens=False)
        return "\ufffd" in text or any(stop[-1:] in text for stop in stops)

    def load_adapter(self, stage: str, folder: Path) -> None:
        """Add the adapter in ``folder`` as ``stage``; an adapter of that name is replaced.

        Raises:
            ModelError: the folder holds no sound adapter, or one made for another backbone.
        """
        from peft import PeftModel

        refuse_pickle(folder)
        if not (folder / "adapter_config.json").is_file():
            raise ModelError(
                f"The adapter of stage {stage} is not complete: {folder} has no adapter_config.json. "
                "Train the stage again or promote an earlier version with `sawyer models rollback`."
            )
        try:
            if isinstance(self.model, PeftModel):
                if stage in self._adapters:
                    self.model.delete_adapter(stage)
            else:
                self.model = PeftModel.from_pretrained(self.model, str(folder), adapter_name=stage)
            # from_pretrained keeps to itself which weights found no place: the first adapter is loaded once more.
            loaded = self.model.load_adapter(str(folder), adapter_name=stage, is_trainable=False)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(explain_unreadable(f"adapter of stage {stage}", folder, error)) from error
        except Exception as error:  # safetensors raises an exception type of its own, which it does not export
            if type(error).__name__ != "SafetensorError":
                raise
            raise ModelError(explain_unreadable(f"adapter of stage {stage}", folder, error)) from error
        targets = self.model.peft_config[stage].target_modules
        strays = [*loaded.unexpected_keys, *loaded.missing_keys, *left_out(self.model.get_base_model(), targets)]
        if strays:
            raise ModelError(explain_foreign(f"adapter of stage {stage}", folder, strays))
        self._remember(stage)

    def drop_adapter(self, stage: str) -> None:
        """Forget the adapter of ``stage``; its memory is free again.

        Raises:
            ModelError: the stage has no adapter.
        """
        self.check_stage(stage)
        self.model.delete_adapter(stage)
        del self._adapters[stage]
        self._active, self._training = None, False

    def add_adapter(self, stage: str, lora: LoraSpec, *, copy_of: str | None = None) -> None:
        """Add a fresh adapter (its output is exactly zero), or an exact copy of another stage's."""
        from peft import LoraConfig, PeftModel, get_peft_model

        if copy_of is not None:
            config = copy.deepcopy(self.model.peft_config[copy_of])
            config.inference_mode = False
        else:
            config = LoraConfig(
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=lora.target,
                modules_to_save=lora.whole or None,
                task_type="SEQ_2_SEQ_LM" if self.is_encoder_decoder else "CAUSAL_LM",
            )
        if isinstance(self.model, PeftModel):
            self.model.add_adapter(stage, config)
        else:
            self.model = get_peft_model(self.model, config, adapter_name=stage)
        self._remember(stage)
        if copy_of is not None:
            with torch.no_grad():
                for ours, theirs in zip(self._adapters[stage], self._adapters[copy_of], strict=True):
                    ours.copy_(theirs)

    def save_adapter(self, stage: str, folder: Path) -> None:
        """Write one stage's adapter as a PEFT folder (safetensors, no embeddings)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder, selected_adapters=[stage], save_embedding_layers=False)
        nested = folder / stage
        if nested.is_dir():  # PEFT puts every adapter not called "default" into a folder of its name
            for file in nested.iterdir():
                file.replace(folder / file.name)
            nested.rmdir()
        # PEFT writes its target modules in the order of a hash set, another one in every process, and a model card of
        # blanks: without this, two identical runs would end with different files.
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        (folder / "README.md").unlink(missing_ok=True)

    def parameters_of(self, stage: str) -> list[torch.nn.Parameter]:
        """The adapter's parameters in a fixed order."""
        return self._adapters[stage]

    def names_of(self, stage: str) -> list[str]:
        """The names of these parameters in ``model``, in the same order."""
        names = [name for name, _ in self.model.named_parameters() if f".{stage}." in name]
        return [name for name in names if "lora_" in name or "modules_to_save" in name]

    @contextmanager
    def using(self, stage: str, *, train: bool = False) -> Iterator[Any]:
        """Make ``stage`` answer inside the block and restore what was active before; yields the model.

        With ``train`` the stage's adapter, and nothing else, requires gradients.

        Raises:
            ModelError: the stage has no adapter.
        """
        self.check_stage(stage)
        before = (self._active, self._training)
        self._switch(stage, train)
        try:
            yield self.model
        finally:
            self._switch(*before)

    @contextmanager
    def merged(self, stage: str) -> Iterator[None]:
        """Inside, ``stage`` answers with its adapter added to the weights, and no other stage can be asked.

        For decoding: a step of a few rows then costs little more than reading the weights. They are rounded to their
        own precision, so log-probabilities differ from the adapter's by rounding. Quantised layers and adapters other
        than plain LoRA stay as they are.
        """
        self.check_stage(stage)
        if not can_merge(self.model, stage):
            yield
            return
        with merged(self.model, stage):
            self._merged = stage
            try:
                yield
            finally:
                self._merged = ""

    def check_stage(self, stage: str) -> None:
        """Raise ModelError unless ``stage`` can be asked."""
        if self._merged not in ("", stage):
            raise ModelError(f"The stage {stage} cannot be asked while {self._merged} lies in the weights.")
        if stage not in self.stages:
            raise ModelError(f"There is no stage {stage!r} here; there are: {', '.join(self.stages)}.")

    def _switch(self, stage: str | None, train: bool) -> None:
        # PEFT's own context manager surveys every layer twice: 16 ms for each decoding step of the nano model.
        for layer in self._layers:
            layer._disable_adapters = stage in ("base", self._merged)
        if stage not in (None, "base") and self.model.active_adapter != stage:
            self.model.set_adapter(stage, inference_mode=not train)
        for name, parameters in self._adapters.items():
            for parameter in parameters:
                parameter.requires_grad_(train and name == stage)
        self._active, self._training = stage, train

    def _remember(self, stage: str) -> None:
        let_rows_differ(self.model)
        self._layers = [*lora_layers(self.model), *whole_modules(self.model)]
        self._adapters[stage] = [self.model.get_parameter(name) for name in self.names_of(stage)]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self._active, self._training = None, False


def fingerprint(backbone: str | Path, config: Any) -> str:
    """A short hash that tells backbones apart without reading gigabytes.

    Of a folder: every weights file's size, header and sixteen samples. Of a hub model: its id and commit.
    """
    digest = hashlib.sha256()
    folder = Path(backbone)
    if not folder.is_dir():
        digest.update(f"{backbone}@{getattr(config, '_commit_hash', None)}".encode())
        return digest.hexdigest()[:16]
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(str(size).encode())
        with file.open("rb") as stream:
            for part in range(17):
                stream.seek(size * part // 17)
                digest.update(stream.read(65536))
    return digest.hexdigest()[:16]
