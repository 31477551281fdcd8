"""Pairwise judging by a language model behind any OpenAI-compatible URL."""
