"""Samples of one's own: a table or a folder of images, read and checked before any slow work.

What can be corrected is corrected and reported in `Samples.notes`. What cannot is one `DatasetError` that says where
it is and what to do.
"""

from mmad_utils.datasets.image_folders import read_pictures
from mmad_utils.datasets.samples import Samples, find
from mmad_utils.datasets.table_files import read_table

__all__ = ["Samples", "find", "read_pictures", "read_table"]
