"""What readers of graphs raise at something they do not carry out."""


class Refused(Exception):
    """Something in a graph that is not carried out; the text says what."""
