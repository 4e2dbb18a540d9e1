"""What readers of graphs raise at an operation they do not carry out."""


class Refused(Exception):
    """An operator, or a use of one, that is not carried out."""
