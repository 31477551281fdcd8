"""Benchmarks by lm-evaluation-harness on local copies of their data: TruthfulQA and MMLU, or any task it knows."""
