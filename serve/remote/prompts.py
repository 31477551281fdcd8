"""Prompts for model servers elsewhere: the recipe's own tokenizer and chat format, without the model and without torch.

The tokens are those that the local engine would decode from.
"""

import copy
import json
import threading
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from sawyer.chat import ChatFormat
from sawyer.errors import UsageError
from sawyer.hub import error_kinds
from sawyer.loading import load_tokenizer
from sawyer.recipe import Recipe
from sawyer.types import Stage
from serve.engine import Job
from serve.errors import ApiError
from serve.reply_text import TokenNames

Frame = tuple[list[int], list[int]]
"""Ids of the control tokens before and after a text."""


class Prompts:
    """Tokenises and words prompts. Safe to use from several threads.

    Args:
        tokenizer: a fast Hugging Face tokenizer, kept.
        chat: the format over this tokenizer.
    """

    def __init__(self, tokenizer: Any, chat: ChatFormat) -> None:
        self._chat, self._tokenizer = chat, tokenizer
        # A copy for what switches settings of the tokenizer or must not be disturbed by such a switch.
        self._plain, self._lock = copy.deepcopy(tokenizer), threading.Lock()
        self._names = TokenNames(self._plain)
        self._control = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()} - {tokenizer.unk_token_id}
        self._frame = self.frame(self._plain("Hello")["input_ids"])

    @classmethod
    def of(cls, recipe: Recipe, base: Path | None) -> "Prompts":
        """The prompts of a recipe; ``base`` is its trained backbone's folder, None where it names one of the hub.

        Raises:
            UsageError: an encoder-decoder. ModelError: the tokenizer is not to be had.
        """
        backbone = base or recipe.model.backbone
        assert backbone is not None, recipe.name
        tokenizer = load_tokenizer(recipe.model.tokenizer or backbone, recipe.model)
        if recipe.t5 is not None or _is_encoder_decoder(backbone, recipe.model.revision):
            raise UsageError(
                f"Recipe {recipe.name} has an encoder-decoder, whose adapters neither vLLM nor TGI serves. Use "
                "--engine local."
            )
        return cls(tokenizer, ChatFormat(tokenizer, recipe.model.chat))

    def encode(self, job: Job) -> list[int]:
        """Tokens of the conversation, or of the text to be continued after BOS."""
        with self._lock:
            if job.prompt is None:
                return self._chat.encode_prompt(list(job.messages), job.stage)
            bos = self._tokenizer.bos_token_id
            return [*([] if bos is None else [bos]), *self._chat.encode_text(job.prompt)]

    def decode(self, ids: Sequence[int]) -> str:
        """The exact text of a prompt, for the record; control tokens show as their names."""
        with self._lock:
            return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def stop_strings(self, stage: Stage) -> list[str]:
        """Texts at which a reply of ``stage`` ends besides EOS."""
        return self._chat.stop_strings(stage)

    def describe(self, token: int) -> tuple[str, list[int]]:
        """Text and bytes of a token."""
        with self._lock:
            return self._names.describe(token)

    def frame(self, ids: Sequence[int]) -> Frame:
        """The control tokens that somebody put around a text of which these are the tokens."""
        around = [list(takewhile(self._control.__contains__, side)) for side in (ids, reversed(ids))]
        return around[0], around[1][::-1]

    def wording(self, ids: Sequence[int], frame: Frame | None = None) -> str:
        """The text that a server with this tokenizer turns into ``ids``.

        Where splitting is ambiguous the text may become other ids, never other control tokens.

        Args:
            frame: what the server puts around a text; None: what this tokenizer does.

        Raises:
            ApiError: 400, there is none: the names of control tokens in somebody's text would become such tokens.
        """
        with self._lock:
            before, after = self._frame if frame is None else frame
            whole = self._plain.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
            bare = whole.removeprefix(self._plain.bos_token or "")
            # SentencePiece writes a space before the first word by itself, and a decoder shows it; some would add
            # another to one that is written.
            candidates = [text for text in dict.fromkeys([bare.removeprefix(" "), bare, whole]) if text]
            read = [(text, [*before, *self._read(text), *after]) for text in candidates]
        for text, there in read:
            if there == list(ids):
                return text
        for text, there in read:
            if self._control_of(there) == self._control_of(ids):
                return text
        if not bare:
            raise ApiError(400, "The prompt is empty. Give at least one message with text.", code="empty_prompt")
        names = ", ".join(sorted(self._plain.get_added_vocab())[:8])
        text = (
            f"The text has in it what the model reads as a control token (one of {names}). The TGI server takes text "
            "only, where this cannot be told from the token itself. Leave it out, or write it with a space inside."
        )
        raise ApiError(400, text, code="control_token_in_text", param="messages")

    def _read(self, text: str) -> list[int]:
        """As a server reads a text: names of control tokens are such tokens."""
        return self._plain(text, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]

    def _control_of(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self._control]


def _is_encoder_decoder(backbone: str | Path, revision: str | None) -> bool:
    """Read from the config alone: transformers' own reader imports torch."""
    file = Path(backbone) / "config.json"
    if not Path(backbone).is_dir():
        from huggingface_hub import hf_hub_download

        try:
            file = Path(hf_hub_download(str(backbone), "config.json", revision=revision))
        except (OSError, *error_kinds()):  # the tokenizer was to be had; vLLM or TGI know what the model is
            return False
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("is_encoder_decoder"))
    except (OSError, ValueError):
        return False
