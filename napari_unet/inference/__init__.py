"""Inference: a network over a stack, piece by piece, in bounded memory."""
