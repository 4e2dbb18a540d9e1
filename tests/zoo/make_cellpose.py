"""Store outputs of cellpose's CPnet: ``python make_cellpose.py``.

Only the file of the network is imported; the package imports a window otherwise.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from record import Case, record

PATH = Path(find_spec("cellpose").origin).with_name("resnet_torch.py")
SPEC = spec_from_file_location("resnet_torch", PATH)
resnet_torch = sys.modules["resnet_torch"] = module_from_spec(SPEC)
SPEC.loader.exec_module(resnet_torch)


def case(name, shape, widths=(4, 8, 16), out=3, told=None, **options):
    net = resnet_torch.CPnet([shape[1], *widths], out, 3, **options)
    return Case(
        name, net, shape, "cellpose",
        settings=told or {},
        fields={"task": "flows" if out == 3 and len(shape) == 4 else "restoration"},
        pick=lambda outputs: outputs[0],
    )  # fmt: skip


CASES = [
    case("2d", (1, 2, 32, 48)),
    case("2d-deep", (2, 2, 32, 48), (4, 8, 12, 16)),
    case("2d-1channel-2outputs", (1, 1, 32, 48), out=2),
    case("2d-average", (1, 2, 32, 48), max_pool=False, told={"pooling": "average"}),
    case("3d", (1, 1, 8, 16, 24), conv_3D=True),
]

if __name__ == "__main__":
    record("cellpose", "cellpose", CASES)
