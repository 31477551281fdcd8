"""Rows of different lengths, stages and ages in one batch: they join and leave between steps of decoding."""

from sawyer.ragged.batch import Arrival, RaggedBatch, Step
from sawyer.ragged.forward import can_run_ragged
from sawyer.ragged.merged import can_run_merged, generate_merged

__all__ = ["Arrival", "RaggedBatch", "Step", "can_run_merged", "can_run_ragged", "generate_merged"]
