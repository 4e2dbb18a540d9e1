"""Training: a network learns from strokes."""
