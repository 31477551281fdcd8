"""Comparisons with other libraries; run from a checkout, in no package."""
