"""Measurements whose figures stand in docs/benchmarks.md."""
