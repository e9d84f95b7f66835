# Notebooks -> results and figures -> report. Run by `make report`; one papermill process per notebook.
# Another profile: snakemake -c 2 --config profile=course notebooks

import sys
from pathlib import Path

import yaml

PROFILE = config.get("profile", "default")
NOTEBOOKS = list(yaml.safe_load(Path("profiles/default.yaml").read_text(encoding="utf-8")))
EDITIONS = ["en", "zh"]
OUTPUT = "" if PROFILE == "default" else f"build/{PROFILE}/"  # only the default profile feeds the report
MODULES = sorted(str(path) for path in Path("mmad_utils").rglob("*.py"))
RENDERER = sorted(
    str(path)
    for path in Path("report").rglob("*")
    if path.is_file()
    and path.suffix in {".py", ".j2", ".typ", ".css", ".js", ".json", ".yaml", ".bib", ".csl"}
    and not {"results", "__pycache__"} & set(path.parts)
)
RESULTS = expand("report/results/{name}.json", name=NOTEBOOKS)
PYTHON = sys.executable


wildcard_constraints:
    name="[0-9a-z_]+",
    document="[a-z_]+",
    language="[a-z]+",


rule report:
    input:
        expand("report/report.{language}.{form}", language=EDITIONS, form=["html", "pdf"]),
        expand("report/which_detector.{language}.html", language=EDITIONS),
        "report/index.html",


rule page:
    input:
        "report/{document}.{language}.ipynb",
        RENDERER,
        MODULES,
        "requirements.lock",
        RESULTS,
    output:
        update("report/{document}.{language}.html"),
    message:
        "report/{wildcards.document}.{wildcards.language}.html"
    shell:
        "{PYTHON:q} -m report.editions check && "
        "{PYTHON:q} -m nbconvert --log-level WARN --config report/jupyter_nbconvert_config.py --to html {input[0]}"


rule paper:
    input:
        "report/report.{language}.ipynb",
        RENDERER,
        MODULES,
        "requirements.lock",
        RESULTS,
    output:
        "report/report.{language}.pdf",
    message:
        "report/report.{wildcards.language}.pdf"
    shell:
        "{PYTHON:q} -m report.editions check && "
        "{PYTHON:q} -m nbconvert --log-level WARN --config report/jupyter_nbconvert_config.py"
        " --to report.paper.PaperExporter {input[0]}"


rule site:
    input:
        expand("build/default/{name}.ipynb", name=NOTEBOOKS),
        "notebooks/glossary.md",
        RENDERER,
    output:
        "report/index.html",
        expand("report/notebooks/{name}.html", name=[*NOTEBOOKS, "glossary"]),
    message:
        "report/index.html"
    shell:
        "{PYTHON:q} -m report.site"


rule notebooks:
    input:
        expand(OUTPUT + "report/results/{name}.json", name=NOTEBOOKS),


# The results are marked update(): Snakemake then keeps them while the notebook runs, and where it fails.
rule notebook:
    input:
        "notebooks/{name}.ipynb",
        "notebooks/src/{name}.py",
        MODULES,
        f"profiles/{PROFILE}.yaml",
        "data/manifest.json",
        "requirements.lock",
    output:
        f"build/{PROFILE}/{{name}}.ipynb",
        update(OUTPUT + "report/results/{name}.json"),
    threads: 1
    message:
        f"notebooks/{{wildcards.name}}.ipynb, profile {PROFILE}"
    shell:
        "{PYTHON:q} -m mmad_utils.course run {wildcards.name} --profile {PROFILE}"
