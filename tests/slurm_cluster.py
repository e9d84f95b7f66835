"""A Slurm of two nodes on this machine, for tests: controller, authentication and node daemons of its own.

It needs root and Debian's packages slurm-wlm and munge. The configuration lies in /etc/slurm/slurm.conf, where every
command of Slurm looks for it, and is removed at the end.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

CONFIGURATION = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
NAME = "mmad-test"
SETTINGS = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdTimeout=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
ReturnToService=2
MpiDefault=none
{nodes}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=8000"
NODES = {"n1": 17001, "n2": 17002}


def missing() -> str:
    """Why no Slurm can be started here, or an empty text."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None and not _sbin(program).exists()]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "a Slurm for the test needs root"
    ours = f"ClusterName={NAME}"  # which a killed test has left, unless its daemons answer
    if CONFIGURATION.exists() and (ours not in CONFIGURATION.read_text() or "is UP" in _scontrol("ping")):
        return f"{CONFIGURATION} exists: another Slurm is configured here"
    return ""


class Cluster:
    """The daemons; each is a process that the test has started."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(NODE.format(name=name, host=host, port=port) for name, port in NODES.items())
        (self.folder / "state").mkdir()
        (self.folder / "munge").mkdir(mode=0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.write_text(SETTINGS.format(name=NAME, host=host, folder=self.folder, nodes=nodes))
        munge = {"key-file": key, "socket": self.folder / "munge.socket", "pid-file": self.folder / "munge" / "pid"}
        munge |= {"log-file": self.folder / "munge" / "log", "seed-file": self.folder / "munge" / "seed"}
        self._run("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in munge.items()))
        _wait_for(lambda: munge["socket"].exists(), "munged")
        self._run("slurmctld", "-D")
        for name in NODES:
            self._run("slurmd", "-D", "-N", name, key=name)
        _wait_for(lambda: _scontrol("show", "node").count("State=IDLE") == len(NODES), "the nodes")

    def _run(self, program: str, *options: str, key: str = "") -> None:
        words = [shutil.which(program) or str(_sbin(program)), *options]
        with (self.folder / f"{key or program}.out").open("wb") as out:
            self.daemons[key or program] = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)

    def facts(self, job: str = "") -> list[dict[str, str]]:
        """What Slurm says about one job, or about all."""
        lines = _scontrol("--oneliner", "show", "job", *filter(None, [job])).splitlines()
        return [dict(word.partition("=")[::2] for word in line.split()) for line in lines if "JobId=" in line]

    def jobs_on(self, name: str) -> list[str]:
        """Numbers of the jobs that run on a node."""
        states = [(each["JobId"], each["JobState"], each.get("NodeList")) for each in self.facts()]
        return [number for number, *state in states if state == ["RUNNING", name]]

    def kill_node(self, name: str) -> None:
        """End all processes of a node at once: its daemon, the managers of its jobs, and the jobs."""
        jobs = self.jobs_on(name)
        managers = [
            process
            for process in psutil.process_iter()
            if any(f"slurmstepd: [{job}." in " ".join(_words(process)) for job in jobs)
        ]
        self.daemons.pop(name).kill()
        for manager in managers:
            for process in [manager, *manager.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def stop(self) -> None:
        if jobs := [job for name in NODES for job in self.jobs_on(name)]:
            subprocess.run(["scancel", *jobs], timeout=10)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        CONFIGURATION.unlink(missing_ok=True)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that is stopped at the end of the block."""
    started = Cluster(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()


def _sbin(program: str) -> Path:
    return Path("/usr/sbin") / program


def _scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], capture_output=True, text=True).stdout


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def _wait_for(condition, what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not start within {seconds:g} s")
        time.sleep(0.2)
