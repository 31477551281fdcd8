"""From token ids to text as it may be shown: whole characters, no stop text, nothing that is taken back later."""

import re
from collections.abc import Sequence
from typing import Any


class ReplyText:
    """The text of one reply while it grows.

    A delta never ends inside a character, never holds what may turn out to be the beginning of a stop text, and
    outer white space is left out, so that all deltas joined equal ``ChatFormat.decode`` of the same tokens.

    Args:
        tokenizer: a fast Hugging Face tokenizer that no other thread uses meanwhile.
        stop: texts that end the reply and do not belong to it.
        strip: False keeps outer white space, which belongs to a text that is continued as it is.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = (), *, strip: bool = True) -> None:
        self._tokenizer, self._stop, self._strip = tokenizer, tuple(stop), strip
        self._special = frozenset(tokenizer.all_special_ids)
        self._ids: list[int] = []
        # Decoding a window, not the last token alone: some decoders join words only in context, and a character may
        # take several tokens. ids[_window:_read] have been turned into text; the window begins one step before.
        self._window = self._read = 0
        self._raw = ""
        self._sent = 0
        self.stopped = False

    @property
    def text(self) -> str:
        """Everything that was given out so far."""
        return (self._raw.lstrip() if self._strip else self._raw)[: self._sent]

    def push(self, token: int) -> str:
        """Add a token and return the text that can be shown now; sets ``stopped`` when a stop text is complete."""
        if self.stopped or token in self._special:
            return ""
        self._ids.append(token)
        known, window = self._decoded()
        # U+FFFD at the end: probably a character whose last bytes are still to come.
        if len(window) <= len(known) or window.endswith("\ufffd"):
            return ""
        return self._grow(known, window)

    def finish(self) -> str:
        """No more tokens will come: return what was held back."""
        if self.stopped:
            return ""
        delta = self._grow(*self._decoded())
        return delta if self.stopped else delta + self._give(len(self._raw))

    def _decoded(self) -> tuple[str, str]:
        known = self._tokenizer.decode(self._ids[self._window : self._read], skip_special_tokens=True)
        return known, self._tokenizer.decode(self._ids[self._window :], skip_special_tokens=True)

    def _grow(self, known: str, window: str) -> str:
        self._window, self._read = self._read, len(self._ids)
        # A stop text may have begun before the new piece.
        searched = max(0, len(self._raw) - max(map(len, self._stop), default=0))
        self._raw += window[len(known) :]
        found = [place for stop in self._stop if (place := self._raw.find(stop, searched)) >= 0]
        if found:
            self.stopped = True
            return self._give(min(found))
        return self._give(len(self._raw) - self._held())

    def _held(self) -> int:
        """Length of the longest end of the text that is the beginning of a stop text."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for length in range(min(longest, len(self._raw)), 0, -1):
            if any(stop.startswith(self._raw[-length:]) for stop in self._stop):
                return length
        return 0

    def _give(self, end: int) -> str:
        """The part of the text up to ``end`` that was not given out, as a rule without outer white space."""
        shown = self._raw[:end].strip() if self._strip else self._raw[:end]
        delta, self._sent = shown[self._sent :], max(self._sent, len(shown))
        return delta


class TokenNames:
    """Names and bytes of single tokens, for log-probabilities."""

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers.decoders import ByteLevel
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        self._tokenizer = tokenizer
        byte_level = isinstance(tokenizer.backend_tokenizer.decoder, ByteLevel)
        self._bytes = {char: byte for byte, char in bytes_to_unicode().items()} if byte_level else {}

    def describe(self, token: int) -> tuple[str, list[int]]:
        """Text (U+FFFD where it is not whole characters) and bytes of a token."""
        raw = self._tokenizer.convert_ids_to_tokens(token) or ""
        if self._bytes and all(char in self._bytes for char in raw):
            data = bytes(self._bytes[char] for char in raw)
        elif byte := re.fullmatch(r"<0x([0-9A-F]{2})>", raw):  # SentencePiece's byte fallback
            data = bytes([int(byte[1], 16)])
        else:
            data = raw.replace("\u2581", " ").encode("utf-8", "replace")
        return data.decode("utf-8", "replace"), list(data)
