"""What a network is for: how its logits become probabilities, labels and objects."""
