"""Checkpoints: any U-Net file, read as data, never executed."""
