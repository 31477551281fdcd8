"""How a conversation becomes tokens, per stage, so that no text of a user can become a control token.

``sft`` and ``rlf`` use the tokenizer's chat template, or the recipe's plain-text markers where it has none (a
foreign backbone gets no new tokens). ``base`` sees the plain transcript, and a single turn as bare text.

A template is rendered with stand-ins for the contents. Special tokens are looked for only in what the template
itself wrote; everything between them, contents included, is tokenised with special tokens split into characters.
For harmless contents the ids equal ``tokenizer.apply_chat_template``'s (tested).
"""

import re
import threading
import uuid
from collections.abc import Sequence
from typing import Any

from sawyer.errors import ModelError
from sawyer.recipe import ChatSpec

Message = dict[str, str]

TEMPLATE = (
    "{{{{ bos_token }}}}{{% for message in messages %}}"
    "{{% if message['role'] == 'system' %}}{{{{ {system} + message['content'] + {separator} }}}}"
    "{{% elif message['role'] == 'user' %}}{{{{ {user} + message['content'] + {separator} }}}}"
    "{{% else %}}{{{{ {assistant} + message['content'] + {stop} + eos_token + {separator} }}}}{{% endif %}}"
    "{{% endfor %}}{{% if add_generation_prompt %}}{{{{ {assistant} }}}}{{% endif %}}"
)


def marker_template(spec: ChatSpec) -> str:
    """Jinja chat template of the recipe's plain-text markers."""
    keys = ("system", "user", "assistant", "separator")
    return TEMPLATE.format(**{key: repr(getattr(spec, key)) for key in keys}, stop=repr(spec.stop or ""))


class ChatFormat:
    """Renders and tokenises conversations for one tokenizer.

    Args:
        tokenizer: a fast Hugging Face tokenizer with an EOS token.
        spec: markers and system prompt of the recipe.
        encoder_decoder: the prompt goes to an encoder of its own: every stage reads the plain transcript, ended by
            EOS as such encoders were trained, and a reply ends with EOS alone.

    Raises:
        ModelError: the tokenizer has no EOS token, without which a reply cannot end.
    """

    def __init__(self, tokenizer: Any, spec: ChatSpec | None = None, *, encoder_decoder: bool = False) -> None:
        self._encoder_decoder = encoder_decoder
        self.tokenizer, self.spec = tokenizer, spec or ChatSpec()
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"The tokenizer {tokenizer.name_or_path} has no EOS token, so a reply could never end. "
                "Name another one in model.tokenizer."
            )
        own = tokenizer.chat_template if self.spec.use_template else None
        self.template: str = own or marker_template(self.spec)
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._special = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self._control = sorted((str(token) for token in tokenizer.get_added_vocab()), key=lambda token: -len(token))
        # Splitting special tokens is a switch of the shared tokenizer: one tokenisation at a time.
        self._lock = threading.Lock()

    def encode_prompt(self, messages: Sequence[Message], stage: str) -> list[int]:
        """Token ids of a conversation that waits for ``stage``'s reply, BOS included where the format has one."""
        if self._encoder_decoder or stage == "base":
            return self.encode_raw(self.transcript(messages))
        pieces, _ = self._pieces(self._with_system(messages), add_generation_prompt=True)
        return [token for ids, _ in pieces for token in ids]

    def encode_raw(self, text: str) -> list[int]:
        """Token ids of a text that is to be continued as it is, BOS included where the tokenizer has one."""
        if self._encoder_decoder:
            return [*self.encode_text(text), self.eos_id]
        bos = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        return bos + self.encode_text(text)

    def encode_conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Token ids of a finished conversation and its loss mask: 1 on each reply's tokens and the EOS after it."""
        pieces, trailing = self._pieces(self._with_system(messages), add_generation_prompt=False)
        ids = [token for piece, _ in pieces for token in piece]
        mask = [int(learn) for piece, learn in pieces for _ in piece]
        # What a template writes after the last EOS (a separator) belongs to the next turn, which never comes.
        return ids[: len(ids) - trailing], mask[: len(mask) - trailing]

    def render_prompt(self, messages: Sequence[Message], stage: str) -> str:
        """The exact text of the prompt, for the record; control tokens show as their names."""
        return self.tokenizer.decode(self.encode_prompt(messages, stage), skip_special_tokens=False)

    def transcript(self, messages: Sequence[Message]) -> str:
        """Plain text that a raw model continues: the bare text of a single turn, else ``User:``/``Assistant:``."""
        if len(messages) == 1:
            return messages[0]["content"]
        lines = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
        return "\n".join([*lines, "Assistant:"])

    def encode_text(self, text: str) -> list[int]:
        """Tokenise text in which nothing may become a control token. No BOS or EOS is added."""
        ids = self._tokenize(text)
        if self._special.isdisjoint(ids):
            return ids
        # A unigram vocabulary (T5) holds control tokens as words of its own: take their names apart by hand.
        parts = [part for piece in self._split_control(text) for part in
                 ([piece[:1], piece[1:]] if piece in self._control else [piece])]  # fmt: skip
        return [token for part in parts for token in self._tokenize(part) if token not in self._special]

    def _tokenize(self, text: str) -> list[int]:
        if not text:
            return []
        with self._lock:
            encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
            return encoded["input_ids"]

    def stop_strings(self, stage: str) -> list[str]:
        """Text at which a reply of ``stage`` ends besides EOS."""
        if self._encoder_decoder:
            return []
        if stage == "base":
            return ["\nUser:", "\nAssistant:"]
        marker = self.spec.user.strip()
        uses_markers = self.template == marker_template(self.spec) or (marker and marker in self.template)
        return [*([self.spec.stop] if self.spec.stop else []), *([marker] if uses_markers and marker else [])]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a reply: control tokens left out, outer white space stripped."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        if self.spec.system_prompt and not any(message["role"] == "system" for message in messages):
            return [{"role": "system", "content": self.spec.system_prompt}, *messages]
        return list(messages)

    def _pieces(
        self, messages: list[Message], *, add_generation_prompt: bool
    ) -> tuple[list[tuple[list[int], bool]], int]:
        """Return ((ids, learn) pieces, number of ids after the last learnt one)."""
        tag = uuid.uuid4().hex
        marks = [f"{tag}-{index}-" for index in range(len(messages))]
        stand_ins = [{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)]
        rendered = self.tokenizer.apply_chat_template(
            stand_ins, chat_template=self.template, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        segments = self._segments(rendered, re.compile(f"{tag}-(\\d+)-"), messages)
        pieces: list[tuple[list[int], bool]] = []
        for control, text, learn in segments:
            ids = [self.tokenizer.convert_tokens_to_ids(control)] if control else self.encode_text(text)
            pieces.append((ids, learn))
        trailing = 0
        for ids, learn in reversed(pieces):
            if learn:
                break
            trailing += len(ids)
        return pieces, trailing

    def _segments(
        self, rendered: str, mark: re.Pattern[str], messages: list[Message]
    ) -> list[tuple[str | None, str, bool]]:
        """Cut the rendering into (control token or None, plain text, learn) at control tokens of the template and
        at the borders of replies, which are where the loss mask changes."""
        segments: list[tuple[str | None, str, bool]] = []
        text, in_reply = "", False

        def flush() -> None:
            nonlocal text
            if text:
                segments.append((None, text, in_reply))
            text = ""

        for index, part in enumerate(mark.split(rendered)):
            if index % 2:
                message = messages[int(part)]
                if message["role"] == "assistant":
                    flush()
                    text, in_reply = message["content"].strip(), True
                else:
                    text += message["content"].strip()
                continue
            for piece in self._split_control(part):
                if piece in self._control:
                    flush()
                    segments.append((piece, "", in_reply))
                    in_reply = in_reply and self.tokenizer.convert_tokens_to_ids(piece) != self.eos_id
                else:
                    text += piece
        flush()
        return segments

    def _split_control(self, text: str) -> list[str]:
        if not self._control:
            return [text] if text else []
        pattern = "(" + "|".join(re.escape(token) for token in self._control) + ")"
        return [piece for piece in re.split(pattern, text) if piece]
