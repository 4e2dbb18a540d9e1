"""Check packages that we export with bioimage.io's own programs.

``PYTHONPATH=. python tests/zoo/check_bioimageio.py model.zip ...``, in an environment
with ``requirements/bioimageio.txt`` and this package's requirements. The descriptions
are validated by bioimageio.spec, and each kind of weights is run on the test tensors by
bioimageio.core.
"""

from __future__ import annotations

import sys

from bioimageio.core import test_model
from bioimageio.spec import InvalidDescr, load_description

_KINDS = ("onnx", "pytorch_state_dict")


def check(path: str) -> bool:
    """Print what is wrong with a package; return whether nothing is."""
    described = load_description(path)
    summaries = {"format": described.validation_summary}
    if not isinstance(described, InvalidDescr):
        for kind in _KINDS:
            if getattr(described.weights, kind, None):
                summaries[kind] = test_model(described, weight_format=kind)
    for name, summary in summaries.items():
        errors = [error for detail in summary.details for error in detail.errors]
        print(path, name, summary.status, *(f"{e.loc} {e.msg}" for e in errors))
    return all(summary.status != "failed" for summary in summaries.values())


if __name__ == "__main__":
    sys.exit(not all(map(check, sys.argv[1:])))
