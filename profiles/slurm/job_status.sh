#!/bin/sh
# Print the state of a Slurm job for Snakemake: running, success or failed.
# If the controller does not answer, the state is unknown: print running, so that Snakemake asks again.
if ! answer=$(scontrol --oneliner show job "$1" 2>&1); then
  case $answer in
    *"Invalid job id"*) echo failed ;; # Slurm removes a job some minutes after its end
    *) echo "$answer" >&2; echo running ;;
  esac
  exit 0
fi
state=${answer##*JobState=}
case ${state%% *} in
  COMPLETED) echo success ;;
  BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | TIMEOUT) echo failed ;;
  *) echo running ;;
esac
