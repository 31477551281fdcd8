"""A key/value cache whose buffers grow by doubling: decoding writes one position instead of copying all of them."""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache


class GrowingLayer(DynamicLayer):
    """One layer's keys and values ``[rows, heads, length, width]`` as views of larger buffers."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any):
        """Append new positions and return all of them (transformers calls this in every attention layer)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if start == 0 or end > self._room.shape[-2]:
            self._grow(key_states, value_states, start, end)
        self._room[..., start:end, :] = key_states
        self._value_room[..., start:end, :] = value_states
        self.keys, self.values = self._room[..., :end, :], self._value_room[..., :end, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only the rows ``indices``."""
        if self.get_seq_length() > 0:
            length = self.get_seq_length()
            self._room, self._value_room = self._room[indices], self._value_room[indices]
            self.keys, self.values = self._room[..., :length, :], self._value_room[..., :length, :]

    def _grow(self, key_states: torch.Tensor, value_states: torch.Tensor, start: int, end: int) -> None:
        rows, heads = key_states.shape[:2]
        size = max(64, end + 32, 2 * start)
        room = key_states.new_empty(rows, heads, size, key_states.shape[-1])
        value_room = value_states.new_empty(rows, heads, size, value_states.shape[-1])
        if start:
            room[..., :start, :] = self.keys
            value_room[..., :start, :] = self.values
        self._room, self._value_room = room, value_room


def new_cache(config: Any) -> Cache:
    """A growing cache, or transformers' own where the model mixes layer kinds (sliding windows, linear attention)."""
    text = config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(text, "sliding_window", None):
        return DynamicCache(config=config)
    return Cache(layer_class_to_replicate=GrowingLayer)


def new_encoder_decoder_cache() -> EncoderDecoderCache:
    """A growing cache for the decoder's own positions; the encoder's keys and values are written once."""
    return EncoderDecoderCache(Cache(layer_class_to_replicate=GrowingLayer), DynamicCache())
