"""Procedures around a network that belong to it, such as those of nnU-Net."""
