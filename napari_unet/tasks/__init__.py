"""Tasks: how logits become classes, probabilities or instances."""
