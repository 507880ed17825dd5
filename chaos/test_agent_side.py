"""An episode ends with a reward even if the agent says random things, in 10,000 turns.

No other episode notices.
"""

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.chat import ChatCompletion
from tau2.data_model.tasks import Task

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.scripted import ground_truth, say

# episodes of each domain, and how many turns they have at least
EPISODES = 2_000
TURNS = 2_500
# domain, solo mode
MODES = (("airline", False), ("retail", False), ("telecom", True), ("mock", True))
MAX_STEPS = 16

HOSTILE = (
    "###STOP###",
    "###TRANSFER###",
    "<think>",
    "</tool_call>",
    "<|im_end|>",
    "{{ 7 * 7 }}",
    "9**9**9",
    "NaN",
    "",
    "\x00\x07\x1b[2J\x7f",
    "\ud800",
    "a\udfff###STOP###",
    "\u202e\u200b\ufeff",
    "../../etc/passwd",
    " " * 100_000,
    "🤖" * 10_000,
)
hostile = st.sampled_from(HOSTILE)
text = st.one_of(
    hostile,
    st.text(st.characters(), max_size=50),
    st.tuples(hostile, st.text(max_size=5)).map("".join),
)
nested = st.sampled_from([depth * "[" + depth * "]" for depth in (10, 1_000, 100_000)])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
arguments = st.one_of(
    st.dictionaries(text, values, max_size=4).map(json.dumps),
    # cut off
    st.dictionaries(text, values, max_size=4).map(lambda value: json.dumps(value)[:-1]),
    nested.map(lambda value: f'{{"a": {value}}}'),
    st.sampled_from(
        [
            '{"a": 1, "a": 2}',
            "[]",
            "null",
            "",
            "{",
            '"' + "x" * 1_000_000 + '"',
            json.dumps({"a": "x" * 1_000_000}),
        ]
    ),
    text,
)


def turns(domain: str, solo_mode: bool) -> st.SearchStrategy[dict]:
    """Completions that an agent of the domain may generate, and worse ones."""
    parameters = {}
    for schema in environment.agent_schemas(domain, solo_mode):
        function = schema["function"]
        parameters[function["name"]] = function["parameters"].get("properties", {})
    names = st.sampled_from(sorted(parameters))

    def call_of(name: str) -> st.SearchStrategy[tuple]:
        optional = dict.fromkeys(parameters[name], values)
        return st.tuples(
            st.just(name), st.fixed_dictionaries({}, optional=optional).map(json.dumps)
        )

    def say_calls(calls: list[tuple]) -> dict:
        return say(None, *calls)

    def say_all(content: str, calls: list[tuple]) -> dict:
        return say(content, *calls)

    def end_early(calls: list[tuple], reason: str | None) -> dict:
        return say(None, *calls, finish_reason=reason)

    calls = names.flatmap(call_of)
    wild_calls = st.tuples(st.one_of(names, text), arguments)
    reasons = st.sampled_from([None, "length", "stop", "content_filter"])
    some_calls = st.lists(calls, min_size=1, max_size=3).map(say_calls)
    return st.one_of(
        # twice as often as the others
        some_calls,
        some_calls,
        calls.map(lambda call: say_calls([call] * 200)),
        st.builds(say_all, text, st.lists(st.one_of(calls, wild_calls), max_size=3)),
        st.builds(end_early, st.lists(wild_calls, max_size=3), reasons),
    )


def agent(completions: list[dict]):
    """Make an LLM that says these completions, then `Hm.`, unchecked as openai's client does."""
    queue = iter(completions)

    async def call(messages, tools, tool_choice, **sampling):
        return construct_type(value=next(queue, say("Hm.")), type_=ChatCompletion)

    return call


async def user(messages, tools, tool_choice, **sampling) -> ChatCompletion:
    """Talk on, as a user, until the agent has done all that is expected."""
    done = str(messages[-1]["content"]).startswith("All done.")
    return ChatCompletion.model_validate(say("###STOP###" if done else "Go on."))


def essence(info: Tau2RunInfo) -> tuple:
    """Return what two runs of the same episode must have in common."""
    messages = [(message.role, message.content) for message in info.simulation.messages]
    return info.reward, list(info.rewards.values()), messages


@pytest.mark.parametrize("domain, solo_mode", MODES)
def test_no_turn_harms_more_than_its_own_episode(domain, solo_mode, capsys):
    workflow = Tau2AgentWorkflow(
        {"domain": domain, "solo_mode": solo_mode, "user_llm": "scripted", "max_steps": MAX_STEPS}
    )
    workflow.user_llm = None if solo_mode else user
    tasks = [task for task in environment.load_tasks(domain).values() if expects_actions(task)]
    if solo_mode:
        tasks = [task for task in tasks if environment.playable_solo(task)]
    task = tasks[0]
    says, _ = ground_truth(task, solo_mode)
    data = {"task_id": task.id}
    turns_by_end = Counter()

    async def play(completions: list[dict]) -> tuple[Tau2RunInfo, Tau2RunInfo]:
        """Play a wild episode, and an honest one beside it."""
        return await asyncio.gather(
            workflow.play_with(agent(completions), data), workflow.play_with(agent(says), data)
        )

    _, undisturbed = asyncio.run(play(says))

    @settings(
        max_examples=EPISODES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(turns(domain, solo_mode), min_size=1, max_size=MAX_STEPS))
    def wild(completions: list[dict]) -> None:
        info, beside = asyncio.run(play(completions))
        assert 0 <= info.reward <= 1
        assert all(-1 <= reward <= 1 for reward in info.rewards.values())
        assert Tau2RunInfo.from_json(info.to_json()).reward == info.reward
        assert info.to_text()
        assert essence(beside) == essence(undisturbed)
        end = info.failure or info.simulation.termination_reason.value
        turns_by_end[end] += min(len(info.turns), len(completions))

    wild()
    total = turns_by_end.total()
    assert total >= TURNS
    with capsys.disabled():
        print(f"\n{domain}: {total} turns, by how their episodes ended: {dict(turns_by_end)}")


def expects_actions(task: Task) -> bool:
    return bool(task.evaluation_criteria and task.evaluation_criteria.actions)
