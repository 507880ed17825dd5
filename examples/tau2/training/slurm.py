"""The workers of a run on Slurm: AReaL's scheduler, with the settings of the run's config.

No job outlives the trainer, however the trainer ends, and `lost_job` notices a job that has ended.
"""

import os
import subprocess
import time
from typing import Any

from areal.api import Job

from examples.tau2.training.areal.schedulers import PatchedSlurmScheduler
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

# seconds a job may wait for its nodes; AReaL's 300 seconds include the queue
QUEUE_TIMEOUT = 24 * 3600.0
# states of a job whose workers exist
RUNNING = {"RUNNING", "SUSPENDED", "STOPPED"}
# seconds that `lost_job` waits while a job is COMPLETING, a state that does not say why the job
# ends; Slurm kills the job's processes after 30 seconds (KillWait)
COMPLETING_TIMEOUT = 60.0
SCANCEL = ("scancel", "--quiet", f"--user={os.getuid()}")
# This script reads names of jobs from a pipe to the trainer. It cancels these jobs when the pipe is
# closed, as it is when the trainer ends or is killed, or when the supervisor ends the script.
GUARD = """
names=
trap exit TERM
trap 'trap "" TERM; for name in $names; do "$@" --name="$name"; done' EXIT
while read -r name; do names="$names $name"; done
"""


class SlurmWorkers(PatchedSlurmScheduler):
    """AReaL's Slurm scheduler with the settings of `actor.scheduling_spec[0]`.

    AReaL's trainer ignores the container type, the mounts and srun's arguments that stand there.
    """

    def __init__(self, config: Tau2PPOConfig | Tau2SFTConfig):
        spec = config.actor.scheduling_spec[0]
        super().__init__(
            exp_config=config,
            container_type=spec.container_type,
            container_mounts=spec.mount,
            srun_additional_args=spec.srun_additional_args,
            startup_timeout=QUEUE_TIMEOUT,
        )
        # the script and its first argument, which a shell calls $0; "$@" is the rest
        command = ["sh", "-c", GUARD, "sh", *SCANCEL]
        self.guard = subprocess.Popen(
            command, stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def create_workers(self, job: Job, *args: Any, **kwargs: Any) -> list[str]:
        """Submit a job, which ends with this process."""
        name = self.job_name(job.role)
        # the job of an earlier run whose machine was lost may still be there
        subprocess.run([*SCANCEL, f"--name={name}"], check=False)
        # the guard has to know the name before there is a job
        assert self.guard.stdin is not None
        self.guard.stdin.write(f"{name}\n")
        self.guard.stdin.flush()
        return super().create_workers(job, *args, **kwargs)

    def lost_job(self) -> str | None:
        """Return a sentence on a job whose workers are gone; None if all run."""
        for role, job_id in self.job_ids().items():
            deadline = time.monotonic() + COMPLETING_TIMEOUT
            state = job_state(job_id)
            while state == "COMPLETING" and time.monotonic() < deadline:
                time.sleep(1)
                state = job_state(job_id)
            if state and state not in RUNNING:
                return (
                    f"Slurm's job {job_id} of the {role} workers is {state}; "
                    f"see {self.log_path(role)}"
                )
        return None


def job_state(job_id: int) -> str:
    """Return Slurm's word for the state of a job.

    It is "forgotten" if Slurm does not know the job any more. It is "" if Slurm's controller does
    not answer, which does not end a job.
    """
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return ""
    return "forgotten" if "Invalid job id" in result.stderr else result.stdout.strip()
