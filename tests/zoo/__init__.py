"""Outputs of other libraries' U-Nets, and the scripts that made them.

Weights are not stored: `recipe.fill` gives every tensor of a schema the same values
here and where the library ran. Stored are the schema, the options and the output.
"""
