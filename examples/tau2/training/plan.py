"""What a config amounts to, and everything that is wrong with it, before anything is launched."""

import asyncio
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from areal.api.alloc_mode import ModelAllocation
from areal.api.cli_args import (
    TrainDatasetConfig,
    ValidDatasetConfig,
    parse_cli_args,
    to_structured_cfg,
)
from areal.experimental.openai.proxy.server import DEFAULT_ADMIN_API_KEY
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from examples.tau2.data import tasks
from examples.tau2.data.dataset import BadTasks, TaskFilter, task_rows
from examples.tau2.episode import environment
from examples.tau2.episode.completions import strip_thinking
from examples.tau2.episode.llm import describe_error, probe, user_llm
from examples.tau2.training.launch import ConfigError
from examples.tau2.training.recovery import recovery_is_on
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig

PROXY_MAX_TOKENS = (
    32_768  # AReaL 1.0.4's proxy allows a prompt and its answer no more, whatever gconfig says
)
_PLACEHOLDER = re.compile(r"/path/to\b|<[^<>]+>")


def load_plan(argv: list[str], kind: type = Tau2PPOConfig) -> tuple[Any, list[str]]:
    """The config of a command line, of a kind, like AReaL's `load_expr_config` but writing nothing; and what is wrong in it.

    Options that do not exist, have the wrong type, or are missing are reported and left out, so that the rest can be checked.

    Raises:
        ConfigError: the file or an override cannot be read, or makes no config.
    """
    try:
        given, _ = parse_cli_args(argv)
    except (Exception, SystemExit) as error:
        raise ConfigError([f"--config or an override: {_first_line(error)}"]) from error
    OmegaConf.set_struct(given, False)
    found = []
    try:
        config = to_structured_cfg(given, kind)
    except Exception:
        for path, problem in _wrong_options(given, kind):
            found.append(problem)
            _delete(given, path)
    try:
        config = to_structured_cfg(given, kind)
        for path in [path for path, node in _leaves(config) if node._is_missing()]:
            option = ".".join(map(str, path))
            found.append(f"{option} is not set; add {option}=... to the command line")
            OmegaConf.update(config, option, "unset")
        plan = OmegaConf.to_object(config)
    except Exception as error:
        raise ConfigError([*found, _first_line(error)]) from error
    discount = OmegaConf.select(given, "rollout.agent.turn_discount")
    if discount is not None and discount != plan.econfig.turn_discount:
        plan.rollout.agent.turn_discount = plan.econfig.turn_discount
        found.append(
            f"rollout.agent.turn_discount={discount} contradicts econfig.turn_discount={plan.econfig.turn_discount}; "
            "set the latter only, AReaL's follows from it"
        )
    return plan, found


def _wrong_options(given: DictConfig, kind: type) -> list[tuple[tuple, str]]:
    """(path, sentence) for each option that does not exist or has the wrong type."""
    wrong = []
    for path, value in _leaves(given):
        nested = value
        for key in reversed(path):
            nested = {key: nested}
        try:
            to_structured_cfg(OmegaConf.create(nested), kind)
        except Exception as error:
            wrong.append((path, f"{'.'.join(map(str, path))}: {_first_line(error)}"))
    return wrong


def _delete(config: DictConfig, path: tuple) -> None:
    """Delete an option, and the sections that this leaves empty."""
    key, *rest = path
    if rest:
        _delete(config[key], rest)
    if not rest or not config[key]:
        del config[key]


def _leaves(config: DictConfig, prefix: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    for key in config:
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and len(node):
            yield from _leaves(node, (*prefix, key))
        else:
            yield (*prefix, key), node


def problems(plan: Tau2PPOConfig) -> list[str]:
    """Everything that is wrong with a plan, a sentence each, naming the option and what to do; tries the user LLM."""
    checks = (
        _environment,
        _numbers,
        _contexts,
        allocation,
        storage,
        _agent_mode,
        keys,
        recovery,
        _reward_function,
        _trackers,
        _user_simulator,
    )
    return [problem for check in checks for problem in check(plan)]


def _environment(plan: Tau2PPOConfig) -> Iterator[str]:
    econfig = plan.econfig
    if econfig.domain not in environment.DOMAINS:
        yield f"econfig.domain={econfig.domain!r} is unknown; choose one of {', '.join(environment.DOMAINS)}"
        return
    if econfig.solo_mode and econfig.domain not in environment.SOLO_DOMAINS:
        yield (
            f"econfig.solo_mode=true: tau2's {econfig.domain} has no solo mode; set it to false, "
            f"or econfig.domain to one of {', '.join(environment.SOLO_DOMAINS)}"
        )
        return
    if missing := list(_missing_data(plan, econfig.domain)):
        yield from missing
        return
    others: set[str] = set()
    for option in ("train_dataset", "valid_dataset"):
        dataset = getattr(plan, option)
        if dataset is None:
            continue
        try:
            others |= _domains(plan, dataset).keys() - {econfig.domain}
        except ValidationError as error:
            yield f"{option}.dataset_kwargs: {tasks.explain_error(error)}"
        except BadTasks as error:
            yield from (f"{option}.path={dataset.path!r}: {problem}" for problem in error.problems)
        except (ValueError, OSError) as error:
            yield f"{option}.path={dataset.path!r}: {tasks.explain_error(error)}"
    for domain in sorted(others):
        yield from _missing_data(plan, domain)


def _missing_data(plan: Tau2PPOConfig, domain: str) -> Iterator[str]:
    directories = {os.environ.get("TAU2_DATA_DIR")}
    for engine in (plan.actor, plan.rollout):
        directories |= {spec.env_vars.get("TAU2_DATA_DIR") for spec in engine.scheduling_spec}
    for directory in sorted(directories - {None, ""}):
        if not Path(directory, "tau2", "domains", domain).is_dir():
            yield (
                f"TAU2_DATA_DIR={directory} has no tau2/domains/{domain}; point it to the data folder of tau2-bench, "
                "or unset it: the tau2 package brings its data"
            )


def _domains(plan: Tau2PPOConfig, dataset: TrainDatasetConfig | ValidDatasetConfig) -> Counter[str]:
    """The number of tasks of a data set by domain."""
    domain, chosen = plan.econfig.domain, TaskFilter(**dataset.dataset_kwargs)
    rows = task_rows(domain, dataset.path, plan.econfig.solo_mode, chosen)
    return Counter(tasks.find_task_row(row, domain).domain for row in rows)


def _numbers(plan: Tau2PPOConfig) -> Iterator[str]:
    econfig, actor = plan.econfig, plan.actor
    positive = {
        "econfig.max_steps": econfig.max_steps,
        "econfig.timeout": econfig.timeout,
        "gconfig.n_samples": plan.gconfig.n_samples,
        "gconfig.max_new_tokens": plan.gconfig.max_new_tokens,
        "eval_gconfig.n_samples": plan.eval_gconfig.n_samples,
        "eval_gconfig.max_new_tokens": plan.eval_gconfig.max_new_tokens,
        "train_dataset.batch_size": plan.train_dataset.batch_size,
        "valid_dataset.batch_size": plan.valid_dataset and plan.valid_dataset.batch_size,
        "total_train_steps": plan.total_train_steps,
        "run_timeout": plan.run_timeout,
        "cluster.n_nodes": plan.cluster.n_nodes,
        "rollout.max_concurrent_rollouts": plan.rollout.max_concurrent_rollouts,
        "rollout.consumer_batch_size": plan.rollout.consumer_batch_size,
        "rollout.agent.engine_max_tokens": plan.rollout.agent.engine_max_tokens,
        "saver.freq_steps": plan.saver.freq_steps,
        "evaluator.freq_steps": plan.evaluator.freq_steps,
        "recover.freq_steps": plan.recover.freq_steps,
        "actor.ppo_n_minibatches": actor.ppo_n_minibatches,
        "actor.optimizer.lr": actor.optimizer and actor.optimizer.lr,
    }
    yield from not_positive(positive)
    ranges = {
        "econfig.turn_discount": (econfig.turn_discount, 0, 1),
        "econfig.invalid_format_penalty": (econfig.invalid_format_penalty, 0, float("inf")),
        "econfig.action_reward": (econfig.action_reward, 0, 0.99),
        "rollout.max_head_offpolicyness": (plan.rollout.max_head_offpolicyness, 0, float("inf")),
        "cluster.n_gpus_per_node": (plan.cluster.n_gpus_per_node, 0, float("inf")),
        "sglang.mem_fraction_static": (plan.sglang.mem_fraction_static or 0.5, 0, 1),
    }
    for name, gconfig in (("gconfig", plan.gconfig), ("eval_gconfig", plan.eval_gconfig)):
        ranges[f"{name}.temperature"] = (gconfig.temperature, 0, 2)
        ranges[f"{name}.top_p"] = (gconfig.top_p, 1e-6, 1)
    for option, (value, low, high) in ranges.items():
        if not low <= value <= high:
            yield f"{option}={value} is out of range; it must be " + (
                f"at least {low}" if high == float("inf") else f"between {low:g} and {high:g}"
            )
    if plan.group_filter and plan.gconfig.temperature == 0:
        yield "gconfig.temperature=0 makes the episodes of a group the same, and group_filter=true drops them; raise it"
    if actor.temperature != plan.gconfig.temperature:
        yield (
            f"actor.temperature={actor.temperature} is not the gconfig.temperature={plan.gconfig.temperature} that is "
            "sampled with; set both to the same"
        )
    if plan.valid_dataset and plan.valid_dataset.drop_last:
        yield "valid_dataset.drop_last=true leaves tasks out of the validation; set it to false"
    if plan.group_filter and plan.gconfig.n_samples == 1:
        yield "group_filter=true drops every group of gconfig.n_samples=1: raise the latter, or set the former to false"
    if plan.econfig.turn_discount != plan.rollout.agent.turn_discount:
        yield (
            f"rollout.agent.turn_discount={plan.rollout.agent.turn_discount} contradicts "
            f"econfig.turn_discount={plan.econfig.turn_discount}; set the latter only"
        )
    if actor.enable_tree_training and not (
        actor.pad_to_maximum
        and actor.mb_spec.max_tokens_per_mb
        and actor.mb_spec.max_tokens_per_mb % 128 == 0
    ):
        yield (
            "actor.enable_tree_training=true needs actor.pad_to_maximum=true and actor.mb_spec.max_tokens_per_mb "
            "to be a multiple of 128"
        )


def not_positive(options: dict[str, float | None]) -> Iterator[str]:
    for option, value in options.items():
        if value is not None and not value > 0:  # nan, too
            yield f"{option}={value} must be greater than 0"


def _contexts(plan: Tau2PPOConfig) -> Iterator[str]:
    window, served = plan.rollout.agent.engine_max_tokens, plan.sglang.context_length
    if window is None:
        window = PROXY_MAX_TOKENS
    elif window > PROXY_MAX_TOKENS:
        yield f"rollout.agent.engine_max_tokens={window} has no effect: AReaL's proxy stops at {PROXY_MAX_TOKENS}; set that"
    if (
        served is not None and window >= served
    ):  # SGLang refuses a request that could fill its context
        yield (
            f"rollout.agent.engine_max_tokens={window} must be less than sglang.context_length={served}; "
            "lower the former, or raise the latter"
        )
    for option, gconfig in (("gconfig", plan.gconfig), ("eval_gconfig", plan.eval_gconfig)):
        if gconfig.max_new_tokens >= window:
            yield (
                f"{option}.max_new_tokens={gconfig.max_new_tokens} leaves no room for a prompt in a context of {window} "
                "tokens (rollout.agent.engine_max_tokens); lower it"
            )
    limit = plan.actor.mb_spec.max_tokens_per_mb
    if limit is not None and limit < window:
        yield (
            f"actor.mb_spec.max_tokens_per_mb={limit} is less than the longest sequence, "
            f"rollout.agent.engine_max_tokens={window}; raise the former, or lower the latter"
        )


def allocation(plan: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """What keeps the engines' backends from fitting the cluster."""
    total = plan.cluster.n_nodes * plan.cluster.n_gpus_per_node
    engines = {"actor": (plan.actor, ("archon", "megatron", "fsdp"))}
    if isinstance(plan, Tau2PPOConfig):
        engines["rollout"] = (plan.rollout, ("sglang",))
    used, parsed = 0, True
    for option, (engine, backends) in engines.items():
        try:
            allocation = ModelAllocation.from_str(engine.backend, name=option)
            size = allocation.parallel.world_size
            if allocation.backend not in backends:
                yield f"{option}.backend={engine.backend}: {option} needs one of {', '.join(backends)}"
        except Exception as error:
            parsed = False
            yield f"{option}.backend={engine.backend!r} is no allocation: {_first_line(error)}"
            continue
        if str(engine.scheduling_strategy.type).endswith("separation"):
            used += size
    needs_gpus = any(spec.gpu for engine, _ in engines.values() for spec in engine.scheduling_spec)
    if parsed and (total or needs_gpus) and used != total:
        taken = " and ".join(
            f"{option}.backend={engine.backend}" for option, (engine, _) in engines.items()
        )
        yield (
            f"{taken} {'take' if len(engines) > 1 else 'takes'} {used} GPUs, but "
            f"cluster.n_nodes={plan.cluster.n_nodes} times cluster.n_gpus_per_node={plan.cluster.n_gpus_per_node} is {total}"
        )


def storage(plan: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Placeholders, names and folders that are not there or cannot be written."""
    placeholders: dict[
        str, str
    ] = {}  # by value: other options take it over from these by interpolation
    for path, value in sorted(
        _strings(asdict(plan)), key=lambda item: not item[0].startswith(("cluster.", "actor."))
    ):
        if is_placeholder(value):
            placeholders.setdefault(value, path)
    for value, path in placeholders.items():
        yield f"{path}={value} is a placeholder; set it"
    for option in ("experiment_name", "trial_name"):
        if not getattr(plan, option) or "/" in getattr(plan, option):
            yield f"{option}={getattr(plan, option)} must not be empty or contain '/'"
    for option, root in (
        ("cluster.fileroot", plan.cluster.fileroot),
        ("cluster.name_resolve.nfs_record_root", plan.cluster.name_resolve.nfs_record_root),
    ):
        if not root:
            yield f"{option} is empty; name a folder"
        elif not is_placeholder(root):
            try:
                _try_to_write(Path(root))
            except OSError as error:
                yield f"{option}={root} cannot be written ({error.strerror}); choose another folder"
    for option, model in (("actor.path", plan.actor.path), ("tokenizer_path", plan.tokenizer_path)):
        if not model:
            yield f"{option} is not set; give a model folder or a name on the model hub"
        elif (
            model.startswith(("/", ".", "~"))
            and not is_placeholder(model)
            and not Path(model).is_dir()
        ):
            yield f"{option}={model} is no folder"


def is_placeholder(value: str) -> bool:
    return bool(_PLACEHOLDER.search(value))


def _try_to_write(folder: Path) -> None:
    """Raise OSError if no file can be written in the folder; leave nothing of the attempt."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    finally:
        for parent in missing:
            if parent.exists():
                parent.rmdir()


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _strings(inner, f"{path}[{index}]")
    elif isinstance(value, str):
        yield path, value


def _agent_mode(plan: Tau2PPOConfig) -> Iterator[str]:
    if plan.scheduler.type not in ("local", "slurm"):
        yield f"scheduler.type={plan.scheduler.type}: AReaL runs agent workflows under local and slurm only"
    if plan.rollout.agent.mode != "inline":
        yield f"rollout.agent.mode={plan.rollout.agent.mode}: this workflow runs inline, all episodes in one event loop"
    if plan.rollout.agent.export_style != "individual":
        yield (
            f"rollout.agent.export_style={plan.rollout.agent.export_style}: use individual; Qwen3's template drops old "
            "reasoning, so that a conversation is not one sequence of tokens"
        )


def keys(plan: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Keys belong into the environment: options are saved."""
    tracked, found = plan.stats_logger, {}
    if isinstance(plan, Tau2PPOConfig):
        found[
            "rollout.agent.admin_api_key", "TAU2_PROXY_ADMIN_API_KEY (by default it is random)"
        ] = plan.rollout.agent.admin_api_key != DEFAULT_ADMIN_API_KEY
        found["econfig.user_llm_args.api_key", "TAU2_USER_LLM_API_KEY"] = "api_key" in (
            plan.econfig.user_llm_args or {}
        )
    found["stats_logger.wandb.wandb_api_key", "WANDB_API_KEY"] = tracked.wandb.wandb_api_key
    found["stats_logger.swanlab.api_key", "SWANLAB_API_KEY"] = (
        tracked.swanlab.api_key != os.environ.get("SWANLAB_API_KEY")
    )
    for (option, variable), is_set in found.items():
        if is_set:
            yield f"{option} would be saved with the config and sent to trackers; set the environment variable {variable} instead"


def recovery(plan: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """What AReaL cannot resume."""
    recover = plan.recover
    if not recovery_is_on(recover):
        return
    if getattr(plan, "critic", None):
        yield "recover.mode=on with critic: AReaL saves the critic, but does not load it; set recover.mode to off"
    if not plan.actor.backend.startswith("megatron"):
        return
    if not (recover.no_save_optim and recover.no_load_optim):
        yield (
            "recover.no_save_optim=false or recover.no_load_optim=false: AReaL cannot save Megatron's optimizer; set both to "
            "true, and a resumed run starts with Adam's moments at zero"
        )
    if plan.actor.megatron.async_save:
        yield "actor.megatron.async_save=true: nothing tells when a checkpoint to recover from is whole; set it to false"


def _reward_function(plan: Tau2PPOConfig) -> Iterator[str]:
    if plan.reward_fn_path:
        try:
            from aenv.examples.tau2_rl import workflow
        except ModuleNotFoundError as error:
            yield f"reward_fn_path: {error}"
        else:
            datasets = filter(None, (plan.train_dataset, plan.valid_dataset))
            yield from workflow.check_reward_function(
                plan.reward_fn_path, [dataset.path for dataset in datasets]
            )


def _trackers(plan: Tau2PPOConfig) -> Iterator[str]:
    wandb = plan.stats_logger.wandb
    if wandb.mode in ("online", "shared") and not wandb.wandb_api_key:
        from wandb import api

        if not api.api_key:
            yield (
                f"stats_logger.wandb.mode={wandb.mode} needs a login: set WANDB_API_KEY in the environment, or take "
                "stats_logger.wandb.mode=offline"
            )


def _user_simulator(plan: Tau2PPOConfig) -> Iterator[str]:
    econfig = plan.econfig
    if econfig.solo_mode:
        return
    if not (econfig.user_llm or econfig.user_llm_base_url):
        yield (
            "econfig.user_llm is not set: the user simulator needs a model, e.g. openai/self-hosted-Qwen2.5-72B with "
            "econfig.user_llm_base_url, or a hosted one; only econfig.solo_mode=true does without"
        )
        return
    where = econfig.user_llm_base_url or "its provider"
    if is_placeholder(where):
        return
    if reserved := sorted(
        {"model", "messages", "tools", "tool_choice", "stream"} & set(econfig.user_llm_args or {})
    ):
        yield f"econfig.user_llm_args must not set {', '.join(reserved)}"
        return
    call = user_llm(econfig.user_llm, econfig.user_llm_base_url, econfig.user_llm_args)
    try:
        if not strip_thinking(asyncio.run(probe(call))):
            raise ValueError("its answer to 'Say OK.' is empty")
    except Exception as error:
        yield (
            f"the user simulator {econfig.user_llm} at {where} does not answer ({describe_error(error)}); start its server, or "
            "set econfig.user_llm_base_url, econfig.user_llm and the API key in the environment"
        )


def summary(plan: Tau2PPOConfig) -> str:
    """The resolved plan, for human readers."""
    econfig, train, valid = plan.econfig, plan.train_dataset, plan.valid_dataset
    mode = (
        "solo"
        if econfig.solo_mode
        else f"user simulator {econfig.user_llm} at {econfig.user_llm_base_url or 'litellm'}"
    )

    def described(dataset) -> str:
        numbers = _domains(plan, dataset)
        by_domain = f" ({', '.join(f'{domain} {number}' for domain, number in numbers.items())})"
        found = f"{numbers.total()} tasks{by_domain if len(numbers) > 1 else ''}"
        return f"{dataset.path}: {found}, {dataset.batch_size} a batch"

    domains = dict.fromkeys(
        domain for dataset in (train, valid) if dataset for domain in _domains(plan, dataset)
    )
    rows = {
        "domain": f"{', '.join(domains)} ({mode})",
        "training": f"{described(train)} x {plan.gconfig.n_samples} episodes"
        + (", equal groups dropped" if plan.group_filter else ""),
        "validation": f"{described(valid)} x {plan.eval_gconfig.n_samples} episodes"
        if valid
        else "none",
        "episode": f"at most {econfig.max_steps} steps and {econfig.timeout:g} s, "
        + ("rejected" if econfig.reject_on_timeout else "scored 0")
        + " at the deadline",
        "allocation": f"{plan.rollout.backend} + {plan.actor.backend} on {plan.cluster.n_nodes} x "
        f"{plan.cluster.n_gpus_per_node} GPUs, {plan.scheduler.type} scheduler",
    }
    return overview(plan, rows)


def overview(plan: Tau2PPOConfig | Tau2SFTConfig, rows: dict[str, str]) -> str:
    """A table of what plans of both kinds say, around `rows`."""
    rows = {
        "experiment": f"{plan.experiment_name} / {plan.trial_name}",
        "model": plan.actor.path,
        **rows,
        "length": f"{plan.total_train_epochs} epochs"
        + (f", at most {plan.total_train_steps} steps" if plan.total_train_steps else ""),
        "output": plan.cluster.fileroot,
        **(
            {"queue": "`squeue --me` shows which jobs wait for nodes"}
            if plan.scheduler.type == "slurm"
            else {}
        ),
    }
    return "\n".join(f"{name:>12}  {value}" for name, value in rows.items())


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
