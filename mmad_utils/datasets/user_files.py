"""The user's own samples: a table or a folder of images, read and checked before any slow computation.

Problems that can be corrected are corrected and reported in `Samples.notes`. Other problems raise a `DatasetError`
that says where the problem is and what to do.
"""

from mmad_utils.datasets.image_folders import read_pictures
from mmad_utils.datasets.samples import Samples, find
from mmad_utils.datasets.table_files import read_table

__all__ = ["Samples", "find", "read_pictures", "read_table"]
