"""Encoders of image classification, as networks take them over: one file a kind.

Each gives features at half, a quarter, ... of the image's size, down to the depth asked
for. All layers are there whatever the depth, with the key names of the source.
"""
