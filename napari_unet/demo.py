"""The main job on the shipped samples, told as it goes."""
