"""Engines in servers elsewhere: vLLM and TGI, and the scripts that start them."""
