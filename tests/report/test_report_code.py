"""The code that the report shows runs as it stands, and is the same in both editions."""

import re
import sys
from functools import partial

import numpy as np
from report_project import ROOT

import mmad_utils

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import editions

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code(language):
    return "".join(BLOCK.findall("\n".join(cell.source for cell in editions.read(language).cells)))


def test_the_code_of_the_chapter_on_implementation_runs(monkeypatch, rng):
    monkeypatch.setattr(mmad_utils, "ImageEncoder", partial(mmad_utils.ImageEncoder, weights="random", image_size=32))
    monkeypatch.setattr(mmad_utils, "TabularEncoder", partial(mmad_utils.TabularEncoder, steps=5))
    y = np.repeat([0, 1], [30, 10])
    names = {
        "X_image": rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8),
        "X_tabular": rng.normal(size=(40, 4)) + 3.0 * y[:, None],
        "X_new": rng.normal(size=(6, 4)),
        "y": y,
    }
    exec(code("en"), names)
    assert set(names["alarms"]["tabular"]) <= {-1, 1}
    assert names["columns"]["tabular"].shape == (6, 4)
    assert {name: len(scores) for name, scores in names["scores"].items()} == {"image": 12, "tabular": 6}


def test_the_editions_differ_in_the_comments_of_their_code_only():
    english, other = (re.sub(" *#.*", "", code(language)) for language in editions.LANGUAGES)
    assert english == other
