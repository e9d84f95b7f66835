# Notebooks -> results and figures -> report, all in build/<profile>. Run by `make report`; one papermill process per
# notebook. Another profile: make report PROFILE=course
#
# A notebook runs again when its results are stale: its source, the lock file, its parameters, or a module of mmad_utils
# that it loaded has changed. `refresh_state` compares them, and changes the single input of the rule if they differ.

import sys
from pathlib import Path

import yaml

from mmad_utils.course import project
from mmad_utils.course.notebook_files import NotebookError, profile_values
from mmad_utils.course.provenance import refresh_state

PROFILE = config.get("profile", "default")
HOME = project.build_home()
BUILD = str((HOME.relative_to(project.ROOT) if HOME.is_relative_to(project.ROOT) else HOME) / PROFILE)
NOTEBOOKS = list(yaml.safe_load(Path("profiles/default.yaml").read_text(encoding="utf-8")))
EDITIONS = ["en", "zh"]
RENDERER = sorted(
    str(path)
    for folder in ("report", "mmad_utils/course")
    for path in Path(folder).rglob("*")
    if path.suffix in {".py", ".j2", ".typ", ".css", ".js", ".json", ".yaml", ".bib", ".csl"}
    and not {"results", "__pycache__"} & set(path.parts)
)
RESULTS = expand(BUILD + "/results/{name}.json", name=NOTEBOOKS)
PAGES = expand(BUILD + "/report/{document}.{language}.html", document=["report", "which_detector"], language=EDITIONS)
PAPERS = expand(BUILD + "/report/report.{language}.pdf", language=EDITIONS)
# The notebooks that run for more than two minutes. They start first, so that no core waits at the end.
LONG = ["01b_image_detectors", "04b_gan_detectors", "05_self_supervised", "07b_adversarial_one_class", "08_fusion"]
LONG += ["09b_labels_and_drift", "10_transformer"]
PYTHON = sys.executable
NBCONVERT = (
    "{PYTHON:q} -m report.editions check && {PYTHON:q} -m nbconvert --log-level WARN"
    " --config report/jupyter_nbconvert_config.py --ReportPreprocessor.profile={PROFILE}"
    " --output-dir {BUILD:q}/report"
)

try:
    profile_values(PROFILE)
    for name in NOTEBOOKS:
        refresh_state(name, PROFILE)
except NotebookError as error:
    sys.exit(str(error))


wildcard_constraints:
    name="[0-9a-z_]+",


rule report:
    input:
        PAGES,
        PAPERS,
        BUILD + "/report/index.html",
        BUILD + "/report/reference/index.html",


# One process for all pages, and one for all papers: to import nbconvert and the results takes longer than a page.
rule pages:
    input:
        RENDERER,
        "requirements.lock",
        RESULTS,
        notebooks=expand("report/{document}.{language}.ipynb", document=["report", "which_detector"], language=EDITIONS),
    output:
        PAGES,
    priority: 1
    message:
        BUILD + "/report/*.html"
    shell:
        NBCONVERT + " {input.notebooks:q} --to html"


rule papers:
    input:
        RENDERER,
        "requirements.lock",
        RESULTS,
        notebooks=expand("report/report.{language}.ipynb", language=EDITIONS),
    output:
        PAPERS,
    message:
        BUILD + "/report/*.pdf"
    shell:
        NBCONVERT + " {input.notebooks:q} --to report.paper.PaperExporter"


rule site:
    input:
        expand(BUILD + "/notebooks/{name}.ipynb", name=NOTEBOOKS),
        PAGES,
        "notebooks/glossary.md",
        RENDERER,
    output:
        BUILD + "/report/index.html",
        expand(BUILD + "/report/notebooks/{name}.html", name=[*NOTEBOOKS, "glossary"]),
    message:
        BUILD + "/report/index.html"
    shell:
        "{PYTHON:q} -m report.site --built {BUILD:q} --output {BUILD:q}/report"


rule reference:
    input:
        sorted(map(str, Path("mmad_utils").rglob("*.py"))),
        "report/reference.py",
        "requirements.lock",
    output:
        BUILD + "/report/reference/index.html",
    message:
        BUILD + "/report/reference/index.html"
    shell:
        "{PYTHON:q} -m report.reference --output {BUILD:q}/report/reference"


rule notebooks:
    input:
        RESULTS,


# With update() Snakemake keeps the old results while the notebook runs, and if it fails.
rule notebook:
    input:
        BUILD + "/state/{name}",
    output:
        BUILD + "/notebooks/{name}.ipynb",
        update(BUILD + "/results/{name}.json"),
    threads: 1
    message:
        f"notebooks/{{wildcards.name}}.ipynb, profile {PROFILE}"
    shell:
        "{PYTHON:q} -m mmad_utils.course run {wildcards.name} --profile {PROFILE}"


use rule notebook as long_notebook with:
    wildcard_constraints:
        name="|".join(LONG),
    priority: 1


ruleorder: long_notebook > notebook
