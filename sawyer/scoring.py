"""Scores of texts: rewards see a prompt and a response as text, never the policy's tokens.

Used while training (through ``train.rewards``), in evaluation, and beside each reply in the demo.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sawyer.data_formats import Message
from sawyer.errors import ModelError
from sawyer.loading import explain_missing, explain_unreadable, refuse_pickle, zero_dropout


class TextScorer(Protocol):
    """Anything that scores responses to prompts."""

    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """Return float32 ``[n]``: one score for each response to its prompt (a list of messages)."""
        ...


def reward_text(prompt: Sequence[Message]) -> str:
    """The prompt as a reward model reads it: bare text of a single user turn, else ``role: content`` lines."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


class ClassifierScorer:
    """A sequence classifier with its own tokenizer as a scorer; the score is the raw logit of one label.

    Args:
        name: hub id or folder of the classifier.
        label: the label whose logit counts, by name; by default the only one, or the last.
        max_length: longest text pair in tokens; default: what the model can take. The prompt is cut on the left, the
            response only when it alone is longer.
        batch_size: texts in one forward pass; they are sorted by length.

    Raises:
        ModelError: the classifier is absent or broken, or has no such label (the message lists its labels).
    """

    def __init__(
        self,
        name: str | Path,
        *,
        label: str | None = None,
        device: torch.device | str = "cpu",
        max_length: int | None = None,
        batch_size: int = 32,
        revision: str | None = None,
    ) -> None:
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        if Path(name).is_dir():
            refuse_pickle(Path(name))
        try:
            config = AutoConfig.from_pretrained(str(name), revision=revision)
            zero_dropout(config)
            self.tokenizer = AutoTokenizer.from_pretrained(str(name), revision=revision)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                str(name), config=config, revision=revision, dtype=torch.float32, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(explain_missing("reward model", name, "ppo.reward", error)) from error
        except Exception as error:  # safetensors does not export its exception type
            if type(error).__name__ != "SafetensorError":
                raise
            raise ModelError(explain_unreadable("reward model", Path(name), error)) from error
        self.model = model.to(device).eval().requires_grad_(False)
        self.device, self.batch_size = torch.device(device), batch_size
        self.index = label_index(config, label, str(name))
        self.max_length = min(max_length or 10**6, longest_input(config, self.tokenizer))

    @torch.inference_mode()
    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """Raw logits, float32 ``[n]``, in the order given."""
        ids = [
            encode_pair(self.tokenizer, reward_text(prompt), response, self.max_length)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        scores = np.zeros(len(ids), np.float32)
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            batch = self.tokenizer.pad({"input_ids": [ids[i] for i in places]}, return_tensors="pt").to(self.device)
            logits = self.model(**batch).logits.float()
            scores[places] = logits[:, self.index].cpu().numpy()
        return scores


def encode_pair(tokenizer: Any, prompt: str, response: str, max_length: int) -> list[int]:
    """Token ids of the pair (prompt, response): the prompt is cut on the left, the response never.

    Only a response that alone is longer than the limit is cut, at its end. No text becomes a special token.
    """
    special = tokenizer.num_special_tokens_to_add(pair=True)
    plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    first = tokenizer(prompt, **plain)["input_ids"]
    second = tokenizer(response, **plain)["input_ids"][: max_length - special]
    room = max_length - special - len(second)
    return join_pair(tokenizer, first[len(first) - room :] if len(first) > room else first, second)


def join_pair(tokenizer: Any, first: list[int], second: list[int]) -> list[int]:
    """Put the tokenizer's own special tokens around two id sequences."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    # RoBERTa: <s> a </s></s> b </s>; BERT: [CLS] a [SEP] b [SEP]. Fewer ids only when there are no such tokens.
    double = tokenizer.num_special_tokens_to_add(pair=True) == 4
    head, end = [i for i in (cls,) if i is not None], [i for i in (sep,) if i is not None]
    return [*head, *first, *end, *(end if double else []), *second, *end]


def label_index(config: Any, label: str | None, name: str) -> int:
    """Index of a label by name, case ignored; the only or last label by default."""
    if label is None:
        return config.num_labels - 1
    labels = {str(text).lower(): int(index) for index, text in config.id2label.items()}
    if label.lower() not in labels:
        raise ModelError(
            f"The classifier {name} has no label {label!r}; it has: {', '.join(config.id2label.values())}. "
            "Correct the key ppo.label."
        )
    return labels[label.lower()]


def longest_input(config: Any, tokenizer: Any) -> int:
    """Tokens a classifier can take: RoBERTa keeps two positions (padding index + 1) for itself."""
    positions = getattr(config, "max_position_embeddings", 512)
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= (config.pad_token_id or 1) + 1
    return min(positions, tokenizer.model_max_length)
