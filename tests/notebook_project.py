"""A project of one small notebook in a temporary folder, for tests of what is done with notebooks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat

from mmad_utils.course import notebook_files
from mmad_utils.course.project import ROOT

SOURCE = """\
# %% [markdown]
# # A small notebook

# %% tags=["parameters"]
seed: int = 0  # of the draw, at least 0
share: float = 0.5  # between 0 and 1
title: str = "Draws"  # above the figure
# which columns to draw
columns: list[str] = ["a", "b"]

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from mmad_utils.course import notebook

nb = notebook.start("small")

# %%
data = nb.load("digits/3", seed=seed)
draws = pd.DataFrame(np.random.default_rng(seed).normal(size=(20, len(columns))), columns=columns)

# %%
fig, axes = plt.subplots()
axes.plot(draws, label=columns)
axes.set_title(title)
nb.figure(fig, "draws", data=draws)

# %% tags=["claim"]
summary = draws.describe()
assert summary.loc["count"].eq(20).all()

# %%
if seed == 13:
    from mmad_utils.datasets import load

    load("nonsense")

# %% [markdown]
# **1. Predict: the mean.** Which sign has it?
#
# <details><summary>Hint</summary>
#
# Look at the code.
#
# </details>

# %% tags=["solution"]
assert abs(draws["a"].mean()) < 1

# %% [markdown]
# **2. Change: fewer draws.** Take half of them. What happens to the standard deviation?
#
# <details><summary>Hint</summary>
#
# Look at the code.
#
# </details>

# %% tags=["solution"]
fewer_draws = draws.iloc[::2]
assert fewer_draws["a"].std() > 0

# %% [markdown] tags=["solution"]
# It hardly changes, for it estimates the same number.

# %% [markdown]
# **3. Build: a histogram.** Count the draws in ten bins.
#
# <details><summary>Hint</summary>
#
# Look at the code.
#
# </details>

# %% tags=["solution"]
counted_draws = np.histogram(draws["a"], bins=10)[0]
assert counted_draws.sum() == len(draws)

# %% [markdown]
# **4. On paper: the sum.** What is the sum of 20 draws, given their mean?
#
# <details><summary>Hint</summary>
#
# The mean is the sum divided by 20.
#
# </details>

# %% tags=["solution"]
assert np.isclose(draws["a"].sum(), 20 * draws["a"].mean())

# %% tags=["results"]
nb.value("mean", share * draws["a"].mean(), sd=draws["a"].std(), n=len(draws))
nb.value("samples", len(data.X_train))
nb.table(draws.describe().loc[["mean", "std"]].rename_axis("statistic"), "summary")
nb.finish()
"""

CAPTIONS = """\
figures:
  draws: {caption: Normal draws., alt: Lines that wander about zero.}
tables:
  summary: {caption: 'Mean and spread, seed {seed}.'}
"""


SETTINGS = """\
[project]
name = "mmad"

[tool.jupytext]
formats = { "notebooks/" = "ipynb", "notebooks/src/" = "py:percent" }
"""


class Project:
    """A project of one notebook in a temporary folder."""

    def __init__(self, root: Path):
        self.root = root
        for folder in ("notebooks/src", "notebooks/captions", "profiles"):
            (root / folder).mkdir(parents=True)
        (root / "requirements.lock").write_text("numpy==2\n")
        (root / "profiles" / "default.yaml").write_text("small: {}\n")
        (root / "profiles" / "smoke.yaml").write_text("small: {share: 1}\n")
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "mmad_utils", root / "mmad_utils", ignore=ignore)
        (root / "pyproject.toml").write_text(SETTINGS)
        (root / "notebooks" / "glossary.md").write_text("### Anomaly\n")
        self.captions.write_text(CAPTIONS)
        self.write(SOURCE)

    def write(self, source: str) -> None:
        """Source and notebook, in step."""
        (self.root / "notebooks" / "src" / "small.py").write_text(source)
        content = jupytext.reads(source, fmt="py:percent")
        content.metadata["kernelspec"] = notebook_files.KERNEL
        nbformat.write(content, self.notebook)

    @property
    def captions(self) -> Path:
        return self.root / "notebooks" / "captions" / "small.yaml"

    @property
    def notebook(self) -> Path:
        return self.root / "notebooks" / "small.ipynb"

    def edit(self, change) -> None:
        """Change the .ipynb alone."""
        content = nbformat.read(self.notebook, as_version=4)
        change(content)
        nbformat.write(content, self.notebook)

    def command(self, *words: str, cwd: Path | None = None, **environment: str):
        """A Python command that imports this project's package; its own output folder only where it is given."""
        inherited = {key: value for key, value in os.environ.items() if key != "MMAD_OUTPUT"}
        return subprocess.run(
            [sys.executable, *words],
            cwd=cwd or self.root,
            env={**inherited, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
        )
