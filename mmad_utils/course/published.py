"""Published results of other authors on the data sets of the course, each with its protocol and source.

The protocols differ from each other and from the protocol of this project. A value holds for its protocol only and
does not show which method is better.
"""

from typing import NamedTuple

import pandas as pd

__all__ = ["PUBLISHED", "Published", "published"]


class Published(NamedTuple):
    """One published value."""

    method: str
    data: str  # category of MVTec AD, or table
    metric: str
    value: float
    protocol: str
    source: str
    key: str  # of the source in report/references.bib


def _images(
    method: str, protocol: str, source: str, key: str, hazelnut: tuple[float, ...], zipper: tuple[float, ...]
) -> list[Published]:
    """The image AUROC and, where there is one, the pixel AUROC on two categories of MVTec AD."""
    return [
        Published(method, data, metric, value, protocol, source, key)
        for data, values in (("hazelnut", hazelnut), ("zipper", zipper))
        for metric, value in zip(("image AUROC", "pixel AUROC"), values)
    ]


_ANOMALIB = ("anomalib, one seed", "akcay2022anomalib")
_SEPARATE = "a model for each category"
_THYROID = {
    "Isolation Forest": 0.9830,
    "PCA": 0.9634,
    "kNN": 0.9593,
    "one-class SVM": 0.8792,
    "LOF": 0.8686,
    "DAGMM": 0.7975,
    "Deep SVDD": 0.4964,
}
_PROTOTYPE = ("not stated", "prototypes of the course")

PUBLISHED = (
    *_images("PaDiM", f"{_SEPARATE}, ResNet-18", *_ANOMALIB, (0.750, 0.978), (0.780, 0.979)),
    *_images("PaDiM", f"{_SEPARATE}, Wide ResNet50-2", *_ANOMALIB, (0.964, 0.985), (0.882, 0.986)),
    *_images("PatchCore", f"{_SEPARATE}, Wide ResNet50-2", *_ANOMALIB, (1.000, 0.987), (0.982, 0.983)),
    *_images(
        "PatchCore",
        f"{_SEPARATE}, Wide ResNet50-2, coreset of 10%",
        "repository of the authors",
        "roth2022patchcore",
        (1.000, 0.987),
        (0.995, 0.989),
    ),
    *_images("EfficientAD-S", f"{_SEPARATE}, its own network", *_ANOMALIB, (0.952,), (0.994,)),
    *_images("EfficientAD-M", f"{_SEPARATE}, its own network", *_ANOMALIB, (0.948,), (0.971,)),
    *_images("Dinomaly", f"{_SEPARATE}, DINOv2", *_ANOMALIB, (1.000, 0.994), (1.000, 0.991)),
    Published("transformer", "hazelnut", "image AUROC", 0.7188, *_PROTOTYPE, ""),
    *(
        Published(
            method,
            "thyroid",
            "AUROC",
            value,
            "training data hold anomalies",
            "ADBench, three seeds",
            "han2022adbench",
        )
        for method, value in _THYROID.items()
    ),
    Published(
        "DAGMM", "thyroid", "F1", 0.4782, "threshold at the anomaly rate", "Zong et al., Table 2", "zong2018dagmm"
    ),
    Published("unified detector", "thyroid", "AUROC", 0.867, *_PROTOTYPE, ""),
    Published("transformer", "thyroid", "AUROC", 0.9577, *_PROTOTYPE, ""),
)


def published(*data: str) -> pd.DataFrame:
    """The published values on some data sets, one row for each method, protocol and source.

    Parameters
    ----------
    *data : str
        "hazelnut", "zipper" (of MVTec AD) or "thyroid".

    Returns
    -------
    pandas.DataFrame
        Columns "method", one column for each metric (with the data set in its name if there are several), "protocol"
        and "reported by". A missing value is "–".
    """
    rows = pd.DataFrame([row for row in PUBLISHED if row.data in data]).rename(columns={"source": "reported by"})
    rows["column"] = rows["data"] + " " + rows["metric"] if len(data) > 1 else rows["metric"]
    columns = list(dict.fromkeys(rows["column"]))
    about = ["method", "protocol", "reported by"]
    wide = rows.set_index([*about, "column"])["value"].unstack("column").reindex(rows[about].drop_duplicates())
    return wide.astype(object).fillna("–").reset_index().rename_axis(columns=None)[["method", *columns, *about[1:]]]
