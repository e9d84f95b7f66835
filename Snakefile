# What is built: the report (`make report`), or a sweep (`snakemake sweep --configfile sweep.yaml`). Only the rules of one
# are read. A job of a sweep that runs on a cluster is known by its configuration.

import sys

sys.path.insert(0, workflow.basedir)

if "sweep" in sys.argv or {"datasets", "detectors"} & set(config):

    include: "sweep.smk"

else:

    include: "report.smk"
    workflow.default_target = "report"
