"""The public functions, and the generators of events behind them.

The command line and the dock iterate over the ``iter_`` generators; `predict`,
`finetune` and `run_batch` drain them. All heavy imports happen inside the functions.
"""

from napari_unet.api.batches import (
    batch_state,
    iter_batch,
    iter_batch_plan,
    iter_verify,
    run_batch,
)
from napari_unet.api.exporting import (
    export_model,
    iter_export,
)
from napari_unet.api.learning import (
    audit,
    evaluate,
    finetune,
    iter_audit,
    iter_finetune,
    iter_patches,
    iter_training_view,
)
from napari_unet.api.opening import (
    iter_inspect,
    load_model,
    open_image,
)
from napari_unet.api.predicting import (
    iter_forecast,
    iter_predict,
    iter_seam,
    iter_where_next,
    predict,
    where_next,
)
from napari_unet.api.projects import finetune_project, iter_finetune_project
from napari_unet.api.shown import iter_measure, iter_regroup, iter_shown

__all__ = [
    "audit",
    "batch_state",
    "evaluate",
    "export_model",
    "finetune",
    "finetune_project",
    "iter_audit",
    "iter_batch",
    "iter_batch_plan",
    "iter_export",
    "iter_finetune",
    "iter_finetune_project",
    "iter_forecast",
    "iter_inspect",
    "iter_measure",
    "iter_patches",
    "iter_predict",
    "iter_regroup",
    "iter_seam",
    "iter_shown",
    "iter_training_view",
    "iter_verify",
    "iter_where_next",
    "load_model",
    "open_image",
    "predict",
    "run_batch",
    "where_next",
]
