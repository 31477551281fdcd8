"""Sequence classifiers as scorers, each with a tokenizer of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sawyer.data_formats import Message
from sawyer.errors import ModelError
from sawyer.loading import reading, refuse_pickle, zero_dropout
from sawyer.scoring.text import encode_pair, encode_single, reward_text

Output = Literal["logit", "logprob", "probability"]


class ClassifierScorer:
    """A sequence classifier with its own tokenizer as a scorer.

    Args:
        name: hub id or folder of the classifier.
        label: the label that counts, by name; by default the only one, or the last.
        output: what of the label is the score: its raw logit, its log-probability or its probability (of a classifier
            with one output, the sigmoid's).
        reads: the pair of prompt and response, or the response alone (classifiers of single sentences).
        dtype: precision of the classifier; scores are float32.
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
        output: Output = "logit",
        reads: Literal["pair", "response"] = "pair",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        max_length: int | None = None,
        batch_size: int = 32,
        revision: str | None = None,
    ) -> None:
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        if Path(name).is_dir():
            refuse_pickle(Path(name))
        # Said, because transformers would ask on the terminal whether to run a repository's code.
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        with reading("reward model", name, "ppo.reward"):
            config = AutoConfig.from_pretrained(str(name), **options)
            zero_dropout(config)
            self.tokenizer = AutoTokenizer.from_pretrained(str(name), **options)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                str(name), config=config, dtype=dtype, use_safetensors=True, **options
            )
        self.model = model.to(device).eval().requires_grad_(False)
        self.device, self.batch_size = torch.device(device), batch_size
        self.index, self.output, self.reads = label_index(config, label, str(name)), output, reads
        self.max_length = min(max_length or 10**6, longest_input(config, self.tokenizer))

    @torch.inference_mode()
    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """The label's logit, log-probability or probability, float32 ``[n]``, in the order given."""
        ids = [self._encode(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        scores = np.zeros(len(ids), np.float32)
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            batch = self.tokenizer.pad({"input_ids": [ids[i] for i in places]}, return_tensors="pt").to(self.device)
            logits = self.model(**batch).logits.float()
            scores[places] = self._picked(logits).cpu().numpy()
        return scores

    def _encode(self, prompt: Sequence[Message], response: str) -> list[int]:
        if self.reads == "response":
            return encode_single(self.tokenizer, response, self.max_length)
        return encode_pair(self.tokenizer, reward_text(prompt), response, self.max_length)

    def _picked(self, logits: torch.Tensor) -> torch.Tensor:
        if self.output == "logit":
            return logits[:, self.index]
        if logits.shape[1] == 1:  # one output is the log-odds of a yes
            logprobs = torch.nn.functional.logsigmoid(logits[:, 0])
        else:
            logprobs = logits.log_softmax(-1)[:, self.index]
        return logprobs if self.output == "logprob" else logprobs.exp()


def label_index(config: Any, label: str | None, name: str) -> int:
    """Index of a label by name, case ignored; the only or last label by default."""
    if label is None:
        return config.num_labels - 1
    labels = {str(text).lower(): int(index) for index, text in config.id2label.items()}
    if label.lower() not in labels:
        raise ModelError(
            f"The classifier {name} has no label {label!r}; it has: {', '.join(config.id2label.values())}. "
            "Correct the key label of this part of ppo.reward."
        )
    return labels[label.lower()]


def longest_input(config: Any, tokenizer: Any) -> int:
    """Tokens a classifier can take: RoBERTa keeps two positions (padding index + 1) for itself."""
    positions = getattr(config, "max_position_embeddings", 512)
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= (config.pad_token_id or 1) + 1
    return min(positions, tokenizer.model_max_length)
