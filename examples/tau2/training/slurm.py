"""AReaL's Slurm scheduler, told what AReaL 1.0.4's trainer leaves out: `scheduling_spec`'s container, mounts and variables.

No job outlives its trainer, however that ends, and `lost` notices one that has ended before.
"""

import os
import shlex
import subprocess
import time
from dataclasses import replace

from areal.infra import SlurmScheduler

from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

QUEUE_TIMEOUT = 24 * 3600.0  # seconds a job may wait for its nodes; AReaL's 300 s include the queue
RUNNING = {"RUNNING", "SUSPENDED", "STOPPED"}  # states of a job whose workers are there
ENDING = 60  # seconds a job may be COMPLETING, which does not say why; Slurm kills its processes after 30 (KillWait)
SCANCEL = ("scancel", "--quiet", f"--user={os.getuid()}")
# cancels the jobs whose names it has read when the trainer's end of the pipe is closed, by whatever, or the supervisor ends it
GUARD = """
names=
trap exit TERM
trap 'trap "" TERM; for name in $names; do "$@" --name="$name"; done' EXIT
while read -r name; do names="$names $name"; done
"""


class SlurmWorkers(SlurmScheduler):
    """Takes container type, mounts and srun's arguments from `actor.scheduling_spec[0]`, as the config says it does."""

    def __init__(self, config: Tau2PPOConfig | Tau2SFTConfig):
        spec = config.actor.scheduling_spec[0]
        super().__init__(
            exp_config=config,
            container_type=spec.container_type,
            container_mounts=spec.mount,
            srun_additional_args=spec.srun_additional_args,
            startup_timeout=QUEUE_TIMEOUT,
        )
        self._n_gpus_per_node = max(1, config.cluster.n_gpus_per_node)  # AReaL divides by it
        words = ["sh", "-c", GUARD, "sh", *SCANCEL]
        self._guard = subprocess.Popen(
            words, stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def create_workers(self, job, *args, **kwargs) -> list[str]:
        name = self._slurm_name(job.role)
        subprocess.run(
            [*SCANCEL, f"--name={name}"], check=False
        )  # of an earlier run whose host was lost
        self._guard.stdin.write(f"{name}\n")  # before there is a job
        self._guard.stdin.flush()
        return super().create_workers(job, *args, **kwargs)

    def lost(self) -> str | None:
        """What has become of a job whose workers are gone; None if all run."""
        for role, job in self._jobs.items():
            deadline = time.monotonic() + ENDING
            while (state := _state(job)) == "COMPLETING" and time.monotonic() < deadline:
                time.sleep(1)
            if state and state not in RUNNING:
                return f"Slurm's job {job} of the {role} workers is {state}; see {self._log_path_of(role)}"
        return None

    def _generate_sbatch_script(self, *args, schedulings, **kwargs) -> str:
        """Without a container AReaL drops the workers' variables: export them in their shell."""
        spec = schedulings[0]
        if self.container_type == "none":
            exports = [
                f"export {name}={shlex.quote(str(value))}" for name, value in spec.env_vars.items()
            ]
            spec = replace(
                spec, additional_bash_cmds=[*exports, *(spec.additional_bash_cmds or [])]
            )
        return super()._generate_sbatch_script(*args, schedulings=[spec], **kwargs)


def _state(job: int) -> str:
    """Slurm's word; "" if the controller does not answer: jobs survive that."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return ""
    return "forgotten" if "Invalid job id" in shown.stderr else shown.stdout.strip()
