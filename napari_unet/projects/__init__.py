"""Annotation projects: folders of strokes, classes and rounds, with their images."""
