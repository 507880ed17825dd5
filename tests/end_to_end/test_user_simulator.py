"""Training on conversations: the whole stack, and a scripted server as the user simulator's LLM."""

import re
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.scripted import LLMServer, is_probe, say
from tests.stack import command, folder_of, run_to_the_end, statistics_of, trajectories_of

STEPS = 2
# groups of a step, and episodes of a group
BATCH, GROUP = 2, 8
# seconds for which the user LLM is away
AWAY = 20.0

# what customers say: the only question, a question that is not the last one, the end
QUESTION, ANOTHER, STOP = "I have a question.", "I have another question.", "###STOP###"


@dataclass
class Run:
    """What a run has left in its folder."""

    statistics: list[dict]
    trajectories: list[Tau2RunInfo]
    rollout_log: str

    def groups(self, version: int) -> list[list[Tau2RunInfo]]:
        """Return the episodes of each group that was played with the weights of a version."""
        groups: dict[int, list[Tau2RunInfo]] = {}
        for info in self.trajectories:
            if info.weight_version == version:
                groups.setdefault(info.group, []).append(info)
        return list(groups.values())


def train(fileroot: Path, url: str) -> Run:
    """Train on conversations with the user LLM at `url`.

    mock has two tasks that expect no action. An episode of one of them gets a reward if the agent
    changes nothing and says something, and if the customer stops then. An episode of the other
    hardly ever gets one. Only rewards make advantages, so only mixed groups are trained on.
    """
    words = command(
        fileroot,
        *("econfig.solo_mode=false", f"econfig.user_llm_base_url={url}"),
        *("econfig.invalid_format_penalty=0", f"total_train_steps={STEPS}"),
        *("train_dataset.dataset_kwargs.max_actions=0", f"train_dataset.batch_size={BATCH}"),
        # the tiny model has learnt to end with a call of `done`, which conversations do not offer:
        # now it is text, and the customer's turn
        "rollout.scheduling_spec[0].env_vars.SGLANG_FORWARD_UNKNOWN_TOOLS=0",
    )
    run_to_the_end(words, fileroot / "printed")
    folder = folder_of(fileroot)
    log = (folder / "rollout.log").read_text()
    return Run(statistics_of(folder), trajectories_of(folder), log)


class Customers:
    """Answers as the user LLM: two customers in three want one answer, the third asks on and on.

    So the episodes of a group get different rewards, whatever the agent says.
    """

    def __init__(self) -> None:
        self._conversations = count(1)

    def __call__(self, request: dict) -> dict:
        said = sayings(request)
        if not said:
            return say(ANOTHER if next(self._conversations) % 3 == 0 else QUESTION)
        return say(STOP if said == [QUESTION] else ANOTHER)


def sayings(request: dict) -> list[str]:
    """Return what the customer has said so far in the conversation of a request."""
    texts = [m["content"] for m in request["messages"] if m["role"] == "assistant"]
    return [text for text in texts if text in (QUESTION, ANOTHER)]


def away(request: dict, since: list[float]) -> bool:
    """Whether the user LLM is away, as it is from the first answer of an agent on.

    `since` keeps when that was.
    """
    if not since and sayings(request):
        since.append(time.monotonic())
    return bool(since) and time.monotonic() < since[0] + AWAY


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory) -> Run:
    with LLMServer(Customers()) as server:
        return train(tmp_path_factory.mktemp("runs"), server.base_url)


def check_steps(run: Run) -> None:
    """Check that each step trained on all turns of its mixed groups, and on no others."""
    assert [record["step"] for record in run.statistics] == list(range(1, STEPS + 1))
    for record in run.statistics:
        groups = run.groups(record["step"] - 1)
        mixed = [group for group in groups if len({info.reward for info in group}) > 1]
        assert len(mixed) == BATCH
        turns = sum(len(info.turns) for group in mixed for info in group)
        assert record["ppo_actor/n_seqs"] == turns
        assert record["ppo_actor/update/grad_norm"] > 0


def check_nothing_was_lost(run: Run) -> None:
    """Check that all episodes are there, but those in which the agent's first answer was empty.

    The tiny model gives such an answer once in some hundred episodes.
    """
    groups = [group for version in range(STEPS) for group in run.groups(version)]
    missing = sum(GROUP - len(group) for group in groups)
    empty = re.findall(r"empty before the agent's .*\. This trajectory", run.rollout_log)
    assert missing <= len(empty)


def spoken(info: Tau2RunInfo) -> list[str]:
    """Return what the user LLM said in an episode."""
    texts = [message.content for message in info.simulation.messages if message.role == "user"]
    return [text for text in texts if text in (QUESTION, ANOTHER, STOP)]


def test_groups_of_conversations_are_trained_on(undisturbed):
    check_steps(undisturbed)
    check_nothing_was_lost(undisturbed)


def test_both_sides_speak(undisturbed):
    for info in undisturbed.trajectories:
        assert info.turns and spoken(info) and not info.solo_mode
    endings = {info.termination: spoken(info) for info in undisturbed.trajectories}
    assert endings["user_stop"] == [QUESTION, STOP]
    for record in undisturbed.statistics:
        assert record["rollout/user/completion_tokens"] > 0


def test_an_absent_user_llm_costs_no_episode(model, tmp_path):
    customers, since = Customers(), []
    with LLMServer(lambda request: None if away(request, since) else customers(request)) as server:
        run = train(tmp_path, server.base_url)
    check_steps(run)
    check_nothing_was_lost(run)
    assert max(info.user_lost_seconds for info in run.trajectories) > AWAY
    assert "user simulator answers again after " in run.rollout_log


def test_a_rejected_episode_costs_itself(model, tmp_path):
    """The user LLM refuses one conversation in eight, and no group is lost."""
    customers, conversations = Customers(), count(1)

    def answer(request: dict) -> dict | tuple[int, dict]:
        is_new = not (is_probe(request) or sayings(request))
        if is_new and next(conversations) % 8 == 0:
            return 400, {"error": {"message": "refused"}}
        return customers(request)

    with LLMServer(answer) as server:
        run = train(tmp_path, server.base_url)
    check_steps(run)
    for record in run.statistics:
        assert record["rollout/episode/rejected"] > 0
        assert record["rollout/group/incomplete"] > 0
        assert record["rollout/group/rejected"] == 0
