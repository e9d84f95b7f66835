"""The folder of the project that the course works in."""

from __future__ import annotations

from mmad_utils.datasets.record import PROJECT_ROOT

ROOT = PROJECT_ROOT
