"""Run a network along one axis: each row goes through each layer once.

Kernels look at a few rows only, so a layer needs but the last rows it read to go on. A
frame of any length is computed in pieces at the cost of one pass over the whole, with
its very output, in memory that does not know the length. See
`napari_unet.inference.streaming.stream`.
"""
