"""Files that attack whoever opens them, and what must come of it.

``python -m hostile.controls`` (with ``tests`` on the path) proves that every attack
works on a program that is not careful.
"""
