# Rules of the report (`make report`) or of a sweep (`snakemake sweep --configfile sweep.yaml`). Only the rules of one of
# them are read. The job of a sweep on a cluster is recognised by its configuration.

import sys

sys.path.insert(0, workflow.basedir)

if "sweep" in sys.argv or {"datasets", "detectors"} & set(config):

    include: "sweep.smk"

else:

    include: "report.smk"
    workflow.default_target = "report"
