# A sweep: batches of cells -> records -> table and critical-difference figure, see mmad_utils/course/sweep.py.

import sys

from mmad_utils.course import sweep

try:
    SWEEP = sweep.read(config)
    if workflow.is_main_process:
        LOCK = sweep.prepare(SWEEP)  # the process holds it until it ends
except sweep.SweepError as error:
    sys.exit(f"error: {error}")

FOLDER = str(SWEEP.folder)
PYTHON = sys.executable
COMMAND = "{PYTHON:q} -m mmad_utils.course.sweep "


localrules:
    sweep,
    sweep_table,


rule sweep:
    input:
        FOLDER + "/table.csv",


rule sweep_table:
    input:
        str(SWEEP.plan),
        expand(FOLDER + "/batches/{batch}.done", batch=SWEEP.batches),
    output:
        FOLDER + "/table.csv",
        FOLDER + "/runs.jsonl",
    message:
        "table of " + FOLDER
    shell:
        COMMAND + "table {input[0]:q}"


rule sweep_cells:
    input:
        FOLDER + "/batches/{batch}.json",
    output:
        touch(FOLDER + "/batches/{batch}.done"),
    threads: SWEEP.threads
    message:
        "cells " + FOLDER + "/batches/{wildcards.batch}.json"
    shell:
        "OMP_NUM_THREADS={threads} " + COMMAND + "cells {input:q}"
