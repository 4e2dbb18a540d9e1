"""Checkpoint families: one file for each library or repository."""
