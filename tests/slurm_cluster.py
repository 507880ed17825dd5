"""A Slurm cluster of several nodes on this machine, by Debian's slurm-wlm and munge, as root."""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.waiting import until

# cores of a node, enough for one of a run's jobs
CPUS = 2
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
# seconds that a daemon has to end before it is killed
GRACE = 30


def missing() -> str:
    """Return why no cluster can run here; "" if one can."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"no {', '.join(lacking)}; as root on Debian: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


@contextmanager
def cluster(folder: Path, nodes: int = 2) -> Iterator[dict[str, str]]:
    """Run a cluster while the block lasts, and yield the variables by which commands find it.

    Its daemons and jobs end with the block.

    Raises:
        RuntimeError: a daemon ends before the nodes are up.
    """
    names = [f"n{number}" for number in range(1, nodes + 1)]
    for name in ("state", *names):
        (folder / name).mkdir(parents=True)
    conf = folder / "slurm.conf"
    conf.write_text(_configuration(folder, names))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    environment = {"SLURM_CONF": str(conf)}
    variables = {**os.environ, **environment}
    munge = [
        *("munged", "--foreground", "--force"),
        *(f"--socket={folder}/munge.socket", f"--key-file={key}"),
        *(f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log"),
        f"--seed-file={folder}/munge.seed",
    ]
    slurm = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in names)]
    log = folder / "daemons.log"
    daemons: list[subprocess.Popen] = []

    def start(command: list[str], output: int) -> None:
        daemons.append(
            subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        )

    def is_up(condition: bool) -> bool:
        if any(daemon.poll() is not None for daemon in daemons):
            raise RuntimeError(f"a daemon has ended: {log.read_text()[-2000:]}")
        return condition

    with ExitStack() as stack:
        output = stack.enter_context(log.open("w")).fileno()
        stack.callback(_end, daemons, variables)
        start(munge, output)
        until(lambda: is_up((folder / "munge.socket").exists()))
        for command in slurm:
            start(command, output)
        until(lambda: is_up(_states(environment) == {"idle": nodes}))
        yield environment


def _configuration(folder: Path, names: list[str]) -> str:
    """Write the text of slurm.conf for nodes of these names."""
    host = socket.gethostname().split(".")[0]
    memory = psutil.virtual_memory().total // 2**20
    controller, *ports = _free_ports(1 + len(names))
    lines = [
        "ClusterName=test",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
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
        # seconds; on a slow machine commands would fail after the default of 10
        "MessageTimeout=100",
    ]
    for name, port in zip(names, ports, strict=True):
        address = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        lines.append(f"NodeName={name} {address} CPUs={CPUS} RealMemory={memory}")
    lines.append(f"PartitionName=main Nodes={','.join(names)} Default=YES State=UP")
    return "\n".join(lines) + "\n"


def _end(daemons: list[subprocess.Popen], variables: dict[str, str]) -> None:
    """End the jobs, the daemons and what these have started."""
    subprocess.run(["scancel", "--user", "root"], env=variables, capture_output=True)
    alive = [psutil.Process(daemon.pid) for daemon in daemons if daemon.poll() is None]
    processes = [*alive]
    for daemon in alive:
        processes += daemon.children(recursive=True)
    # those that need munged end first
    for daemon in reversed(alive):
        daemon.terminate()
        psutil.wait_procs([daemon], timeout=GRACE)
    for process in psutil.wait_procs(processes, timeout=0)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for daemon in daemons:
        daemon.wait()


def ask(environment: dict[str, str], *command: str) -> str:
    """Run one of Slurm's commands, and return what it prints."""
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout


def _states(environment: dict[str, str]) -> dict[str, int]:
    """Count the nodes in each state; there are none while the controller does not answer."""
    command = ["sinfo", "--noheader", "--format=%T %D"]
    shown = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True
    )
    states = {}
    for line in shown.stdout.splitlines():
        state, number = line.split()
        states[state] = int(number)
    return states


def _free_ports(count: int) -> list[int]:
    """Return ports on which no process listens.

    They are below Linux's ephemeral ports, so that no connection takes one before its daemon does.
    """
    free = []
    for port in random.sample(range(10_000, 32_000), 1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                free.append(port)
        if len(free) == count:
            break
    return free
