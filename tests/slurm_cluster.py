"""A Slurm cluster of several nodes on this one machine, by Debian's slurm-wlm and munge, as root."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CPUS = 2  # of a node: enough for one of a run's jobs
PROGRAMS = (
    "munged",
    "slurmctld",
    "slurmd",
    "sbatch",
    "squeue",
    "scancel",
    "srun",
    "sinfo",
    "scontrol",
)


def missing() -> str:
    """Why there can be no cluster here; "" if there can."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"no {', '.join(lacking)}; as root on Debian: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


@contextmanager
def cluster(folder: Path, nodes: int = 2) -> Iterator[dict[str, str]]:
    """The environment variables by which Slurm's commands find the cluster; its daemons and jobs end with the block.

    Raises:
        RuntimeError: the nodes do not come up.
    """
    host, memory = socket.gethostname().split(".")[0], psutil.virtual_memory().total // 2**20
    ports = [_free_port() for _ in range(nodes + 1)]
    names = [f"n{number}" for number in range(1, nodes + 1)]
    for name in ("state", *names):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    lines = [
        "ClusterName=test",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        "SlurmUser=root",
        "SlurmdUser=root",
        f"AuthInfo=socket={folder}/munge.socket",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/%n.pid",
        f"SlurmctldLogFile={folder}/slurmctld.log",
        f"SlurmdLogFile={folder}/%n.log",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SlurmdParameters=config_overrides",
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "ReturnToService=2",
        "KillWait=5",
        *(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory={memory}"
            for name, port in zip(names, ports[1:], strict=True)
        ),
        f"PartitionName=main Nodes={','.join(names)} Default=YES State=UP",
    ]
    conf.write_text("\n".join(lines) + "\n")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    environment = {"SLURM_CONF": str(conf)}
    munge = [
        "munged",
        "--foreground",
        "--force",
        f"--socket={folder}/munge.socket",
        f"--key-file={key}",
    ]
    munge += [
        f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log",
        f"--seed-file={folder}/munge.seed",
    ]
    commands = [munge, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in names)]
    log = (folder / "daemons.log").open("w")
    daemons = []
    try:
        for command in commands:
            daemons.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
            time.sleep(0.5)
        deadline = time.monotonic() + 60
        while (states := _states(environment)) != {"idle": nodes}:
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
                raise RuntimeError(
                    f"the nodes are {states}: {(folder / 'daemons.log').read_text()[-2000:]}"
                )
            time.sleep(0.5)
        yield environment
    finally:
        subprocess.run(
            ["scancel", "--user", "root"], env={**os.environ, **environment}, capture_output=True
        )
        for daemon in reversed(daemons):
            children = (
                psutil.Process(daemon.pid).children(recursive=True) if daemon.poll() is None else []
            )
            daemon.terminate()
            daemon.wait(30)
            for child in children:
                if child.is_running():
                    child.kill()
        log.close()


def ask(environment: dict[str, str], *command: str) -> str:
    """What one of Slurm's commands prints."""
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout


def _states(environment: dict[str, str]) -> dict[str, int]:
    """How many nodes are in each state."""
    lines = ask(environment, "sinfo", "--noheader", "--format=%T %D").splitlines()
    return {state: int(number) for state, number in (line.split() for line in lines)}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
