"""Networks: what a U-Net is, how far it sees, where it runs."""
