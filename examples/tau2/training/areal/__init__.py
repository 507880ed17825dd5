"""AReaL behind one door: its private names and its replaced classes stand in this package only.

The modules of this package give each private name of AReaL a plain one. The classes that mend a
fault stand here, or in the modules of `training` that are named below, which use public names.
A pull request with a number is one of github.com/areal-project/AReaL. "main" is AReaL's branch of
that name at commit cbff54d of 2026-08-22. tests/training/test_areal_*.py, test_engines*.py,
test_recovery.py and test_data_loader.py show each fault in the installed AReaL, and that it is gone
here: a test of the fault fails, or says that it is skipped, when AReaL has mended it. What comes of
workers that are lost is shown in chaos/test_processes.py.

What AReaL does, and what it leads to     | What this project does           | Versions, thread
------------------------------------------|----------------------------------|-------------------
A `CheckpointException` ends a worker's   | engines.ReportsCheckpointErrors  | 1.0.4, main;
thread; the trainer waits forever         |                                  | none found
Megatron trains on from the weights that  | engines.ReloadsMasterWeights     | 1.0.4; #1468 saves
it had before a load without optimizer    |                                  | the optimizer
Archon has weights and Adam's moments in  | engines.archon.                  | 1.0.4, main;
bfloat16, which rounds most steps away    | KeepsMasterWeights               | #1369 is FSDP's
Each rollout worker counts groups up to a | engines.rollout.PlaysEveryGroup  | 1.0.4;
share; one that is full waits for weights |                                  | #1396 (open)
which wait for its group                  |                                  |
A checkpoint is written over the one      | recovery.Checkpoints             | 1.0.4, main;
before; one that cannot be read starts    |                                  | none found
the run anew                              |                                  |
A resumed run repeats the order of the    | data_loader.ResumableDataLoader, | 1.0.4, main;
first epoch, forgets the groups under     | rollouts.continue_group_numbers, | none found
way, and numbers new ones from 0          | rollouts.is_group_under_way      |
A resumed run starts the schedule of the  | trainers.ResumesExactly          | 1.0.4, main;
learning rate anew                        |                                  | none found
A checkpoint is saved before the step is  | trainers.ResumesExactly          | 1.0.4, main;
evaluated and its statistics are written  |                                  | none found
Proxies of a resumed run begin with       | trainers.PatchedPPOTrainer       | 1.0.4, main;
version 0 of the weights                  |                                  | none found
Proxies ask for tokens while the weights  | versions.PausesProxies           | 1.0.4; #1618
are updated                               |                                  |
A token gets the version of the moment in | versions.ServesTrueVersions      | 1.0.4; #1569
which its answer is read                  |                                  |
The proxy's key stands in the config,     | trainer.Tau2PPOTrainer           | 1.0.4; see also
which is saved; its default is published  |                                  | #1323
A forked worker has 60 seconds to listen, | schedulers.                      | 1.0.4;
which a busy machine exceeds              | wait_for_forked_workers          | none found
Runs of one seed draw the same ports; two | ports.draw_ports_apart, called   | 1.0.4;
that start at once end, or share servers  | by trainers and engines          | none found
An inference server that has ended while  | servers.launch_server, called by | 1.0.4; main
it starts is waited for, an hour perhaps  | engines.rollout                  | notices its end
Without a network a machine has no        | hosts.                           | 1.0.4;
address, and no run starts                | use_loopback_without_network,    | none found
                                          | hosts.start_workers_on_loopback  |
A worker that has ended is noticed by the | schedulers.failed_worker,        | 1.0.4;
next call only, which may never come      | slurm.lost_job, health, watchdog | none found
A rejected episode rejects its group      | groups.GroupOfEpisodes           | 1.0.4; see also
                                          |                                  | #1563
The group level of its normalization cuts | engines.ComparesEpisodes         | 1.0.4; #1454
slices of `group_size` turns              |                                  |
The proxy gives a chat template other     | engines.rollout.RendersAsSGLang, | 1.0.4; #1463 and
tools and tool calls than SGLang's server | proxies.render_as_sglang         | #1499 give the same
does: other tokens, or none at all        |                                  | for most requests
Its client sets OPENAI_BASE_URL to none,   | episode.llm.provider_llm         | 1.0.4;
and no model of OpenAI's can be called    |                                  | none found
On Slurm, a node without GPUs divides by  | schedulers.PatchedSlurmScheduler | 1.0.4;
zero                                      |                                  | none found
On Slurm without a container, a worker's  | schedulers.PatchedSlurmScheduler | 1.0.4; see also
variables are dropped                     |                                  | #1584
On Slurm, the trainer ignores container   | slurm.SlurmWorkers               | 1.0.4;
type, mounts and srun's arguments         |                                  | none found
The trainers name their handler and their | trainers.                        | 1.0.4;
rollout engines, and have no option       | replace_classes_of_trainers      | none found
A trainer that cannot be made closes      | trainer.EndsWhenStuck,           | main, since
itself, which may hide the cause          | trainers.ResumesExactly.is_made  | #1500
The proxy allows 32,768 tokens and no     | features.proxy_window tells the  | 1.0.4; none
more, whatever engine_max_tokens says     | checks                           | found
Megatron's optimizer is not saved         | features.                        | 1.0.4; #1468
                                          | saves_megatrons_optimizer        |
Agent workflows do not run under Ray      | features.runs_agents_under_ray   | 1.0.4; #1441
No public name tells an episode the       | rollouts.served_weight_version   | 1.0.4
version of its weights                    |                                  |
No public name asks the workers for more  | rollouts.take_group_results      | 1.0.4, main
than statistics                           |                                  |
No public name packs sequences into trees | trees.tree_sizes                 | 1.0.4
without training on them                  |                                  |
"""

import json
from importlib.metadata import distribution

# the releases with which this project was run, and the commit of main; see docs/development.md
TESTED_VERSIONS = ("1.0.4",)
TESTED_COMMIT = "cbff54d"


def installed_commit() -> str:
    """Return the commit from which pip installed AReaL; "" if pip did not get it from Git."""
    origin = distribution("areal").read_text("direct_url.json") or "{}"
    return json.loads(origin).get("vcs_info", {}).get("commit_id", "")


def version_warning(version: str, commit: str) -> str | None:
    """Return a sentence on an AReaL with which this project was never run; None for the others.

    The commits of AReaL's main between two releases all have the same version.
    """
    if version in TESTED_VERSIONS or commit.startswith(TESTED_COMMIT):
        return None
    tested = ", ".join((*TESTED_VERSIONS, f"commit {TESTED_COMMIT} of main"))
    return (
        f"AReaL {version} is installed, and this project was tested with {tested} only: "
        "it replaces some of AReaL's private methods, which may have changed"
    )
