"""Emulation of other processors: run the notebooks with restricted instruction sets, and compare the results.

The libraries select their routines by the processor's instruction set, and the order of summation differs between
routines. The settings below select the routines of other processors: "sse" PyTorch's without AVX, "avx2" PyTorch's
without AVX-512, "numpy" NumPy's and OpenBLAS's without AVX. A build with such a setting gives the results of a reader
with this processor.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmad_utils.course import notebook_files, project
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.course.tolerances import compare

SETTINGS: dict[str, dict[str, str]] = {
    "sse": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "numpy": {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL"},
}
PROBE = """
import hashlib, json, warnings

import numpy as np, torch
from numpy._core._multiarray_umath import __cpu_features__ as features
from threadpoolctl import threadpool_info

warnings.simplefilter("ignore")
a = np.random.default_rng(0).normal(size=(257, 257))
t = torch.from_numpy(a).float()
convolved = torch.nn.functional.conv2d(t[:256, :256].reshape(4, 16, 32, 32), t[:32, :144].reshape(32, 16, 3, 3))
digest = lambda *arrays: hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in arrays)).hexdigest()[:12]
print(json.dumps({
    "torch": torch.backends.cpu.get_cpu_capability(),
    "numpy": [name for name in ("X86_V4", "X86_V3", "X86_V2") if features.get(name)][:1],
    "openblas": sorted({str(pool.get("architecture")) for pool in threadpool_info()} - {"None"}),
    "torch_results": digest((t @ t).numpy(), t.softmax(1).numpy(), t.sum(0).numpy(), convolved.numpy()),
    "numpy_results": digest(a @ a, np.exp(a), np.linalg.svd(a)[1]),
}))
"""


def probe(setting: dict[str, str]) -> dict[str, object]:
    """The routines that the libraries select under this setting, and hashes of some of their results."""
    ran = subprocess.run([sys.executable, "-c", PROBE], env={**os.environ, **setting}, capture_output=True, text=True)
    if ran.returncode:
        raise NotebookError(f"the setting {setting} does not work on this computer:\n{ran.stderr.strip()}")
    return json.loads(ran.stdout.splitlines()[-1])


def run_all(setting: str, names: list[str], jobs: int) -> list[str]:
    """Execute notebooks under a setting into ``build/portable/<setting>``; returns the failures."""
    folder = project.build_home() / "portable" / setting

    def run(name: str) -> str:
        command = [sys.executable, "-m", "mmad_utils.course", "run", name, "--output", str(folder)]
        # features of images are cached: each setting needs a cache of its own
        environment = {**os.environ, **SETTINGS[setting], "MMAD_CACHE_HOME": str(folder / "cache")}
        started = time.monotonic()
        ran = subprocess.run(command, cwd=project.ROOT, env=environment, capture_output=True, text=True)
        print(f"{setting} {name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return "" if ran.returncode == 0 else f"{setting}: {ran.stderr.strip()}"

    with ThreadPoolExecutor(jobs) as pool:
        return [failure for failure in pool.map(run, names) if failure]


def portable(settings: list[str], names: list[str] | None = None, jobs: int = 2) -> Iterator[str]:
    """Run the notebooks under each setting and compare with ``build/default``.

    A setting that selects the same routines as the processor itself is left out: it would give the same results.

    Parameters
    ----------
    settings : keys of `SETTINGS`
    names : notebooks; default all
    jobs : int
        Number of notebooks that run at the same time.

    Yields
    ------
    str
        A failure, or a difference beyond the tolerances.

    Raises
    ------
    NotebookError
        If the processor is not x86, no setting has an effect on it, or the results without restriction are missing.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise NotebookError(f"make portable restricts x86 instruction sets; this is a {platform.machine()}.")
    natural = project.build_home() / "default" / "results"
    if not any(natural.glob("*.json")):
        raise NotebookError(f"{natural} holds no results to compare with: run `make report` first.")
    usual = probe({})
    print(f"natural: {usual}", file=sys.stderr)
    chosen = {setting: probe(SETTINGS[setting]) for setting in settings}
    for setting, routines in chosen.items():
        print(f"{setting}: {'left out, same as natural' if routines == usual else routines}", file=sys.stderr)
    effective = [setting for setting in settings if chosen[setting] != usual]
    if not effective:
        raise NotebookError(f"of the settings {', '.join(settings)}, none has an effect on this processor.")
    known = list(notebook_files.profile_values("default"))
    for setting in effective:
        yield from run_all(setting, names or known, jobs)
        found = Path(project.build_home() / "portable" / setting / "results")
        yield from (f"{setting}: {line}" for line in compare(natural, found) if not names or _is_of(line, names))


def _is_of(line: str, names: list[str]) -> bool:
    return any(line.startswith(f"{name}:") for name in names)
