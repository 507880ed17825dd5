"""Checks that try out what the run will need.

A probe writes to a disk, calls an LLM or a service, or reads a login. The other modules of this
package only read the config and the files that it names.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from examples.tau2.episode import environment
from examples.tau2.episode.failures import describe_error
from examples.tau2.episode.judge import make_judge
from examples.tau2.episode.llm import probe_user, user_llm
from examples.tau2.training.checks.data import datasets_by_option, is_readable
from examples.tau2.training.checks.judge import check_judge, tasks_to_judge
from examples.tau2.training.checks.placeholders import is_placeholder
from examples.tau2.training.checks.storage import output_folders
from examples.tau2.training.checks.user_simulator import check_user_simulator
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def probe_output_folders(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Write a file to each folder that the run writes to; yield the folders that refuse it."""
    for option, folder in output_folders(config).items():
        if not folder or is_placeholder(folder):
            continue
        try:
            _try_to_write(Path(folder))
        except OSError as error:
            yield f"{option}={folder} cannot be written ({error.strerror}); choose another folder"


def probe_reward_function(config: Tau2PPOConfig) -> Iterator[str]:
    """Import the function of `reward_fn_path`, and ask whether its AEnvironment service answers."""
    if not config.reward_fn_path:
        return
    try:
        from aenv.examples.tau2_rl import workflow
    except ModuleNotFoundError as error:
        yield f"reward_fn_path: {error}"
        return
    paths = [dataset.path for dataset in datasets_by_option(config).values()]
    yield from workflow.check_reward_function(config.reward_fn_path, paths)


def probe_wandb_login(config: Tau2PPOConfig) -> Iterator[str]:
    """Look for a login if the run is to be tracked by Weights & Biases online."""
    wandb = config.stats_logger.wandb
    if wandb.mode not in ("online", "shared") or wandb.wandb_api_key:
        return
    from wandb import api

    if not api.api_key:
        yield (
            f"stats_logger.wandb.mode={wandb.mode} needs a login: set WANDB_API_KEY in the "
            "environment, or take stats_logger.wandb.mode=offline"
        )


def probe_user_llm(config: Tau2PPOConfig) -> Iterator[str]:
    """Call the user LLM once, as an episode does; yield a problem if it gives no answer."""
    econfig = config.econfig
    if econfig.solo_mode or any(check_user_simulator(config)):
        return
    where = econfig.user_llm_base_url or "its provider"
    if is_placeholder(where) or not is_readable(econfig.domain):
        return
    schemas = environment.user_schemas(econfig.domain)
    call = user_llm(econfig.user_llm, econfig.user_llm_base_url, econfig.user_llm_args)
    try:
        asyncio.run(probe_user(call, schemas))
    except Exception as error:
        yield (
            f"the user simulator {econfig.user_llm or 'default'} at {where} does not answer "
            f"({describe_error(error)}); start its server, or set econfig.user_llm_base_url, "
            "econfig.user_llm and the API key in the environment; econfig.user_llm_args has the "
            "arguments of its calls, and null leaves one out"
        )


def probe_judge_llm(config: Tau2PPOConfig) -> Iterator[str]:
    """Have the judge judge once, if there are tasks for it; yield a problem if it does not."""
    econfig = config.econfig
    judge = make_judge(econfig)
    where = econfig.judge_llm_base_url or "its provider"
    if judge is None or is_placeholder(where) or any(check_judge(config)):
        return
    if not tasks_to_judge(config):
        return
    try:
        asyncio.run(judge.probe())
    except Exception as error:
        yield (
            f"the judge {econfig.judge_llm or 'default'} at {where} does not answer "
            f"({describe_error(error)}); "
            "set econfig.judge_llm, econfig.judge_llm_base_url and TAU2_JUDGE_LLM_API_KEY in the "
            "environment; econfig.judge_llm_args has the arguments of its calls, and null leaves "
            "one out"
        )


def _try_to_write(folder: Path) -> None:
    """Write a file in the folder, and remove it and the folders made for it.

    Raises:
        OSError: the folder cannot be made, or no file can be written in it.
    """
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    finally:
        for parent in missing:
            if parent.exists():
                parent.rmdir()
