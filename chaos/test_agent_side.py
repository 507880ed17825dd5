"""Whatever an agent says, an episode ends with a reward, and no other episode notices: 10,000 turns of anything."""

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.chat import ChatCompletion

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.scripted import ground_truth, say

EPISODES, TURNS = 2_000, 2_500  # of each domain
KINDS = (("airline", False), ("retail", False), ("telecom", True), ("mock", True))
MAX_STEPS = 16

HOSTILE = (
    *(
        "###STOP###",
        "###TRANSFER###",
        "<think>",
        "</tool_call>",
        "<|im_end|>",
        "{{ 7 * 7 }}",
        "9**9**9",
        "NaN",
        "",
    ),
    *(
        "\x00\x07\x1b[2J\x7f",
        "\ud800",
        "a\udfff###STOP###",
        "\u202e\u200b\ufeff",
        "../../etc/passwd",
    ),
    *(" " * 100_000, "🤖" * 10_000),
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
    st.dictionaries(text, values, max_size=4).map(lambda value: json.dumps(value)[:-1]),  # cut
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
    """Completions that an agent of the domain might come to."""
    tools = {
        schema["function"]["name"]: schema
        for schema in environment.agent_schemas(domain, solo_mode)
    }

    known = st.sampled_from(sorted(tools))

    def orderly(name: str) -> st.SearchStrategy[tuple]:
        fields = tools[name]["function"]["parameters"].get("properties", {})
        return st.tuples(
            st.just(name),
            st.fixed_dictionaries({}, optional=dict.fromkeys(fields, values)).map(json.dumps),
        )

    calls = known.flatmap(orderly)
    wild = st.tuples(st.one_of(known, text), arguments)
    reasons = st.sampled_from([None, "length", "stop", "content_filter"])
    kinds = (
        st.lists(calls, min_size=1, max_size=3).map(lambda drawn: say(None, *drawn)),
        st.lists(calls, min_size=1, max_size=3).map(lambda drawn: say(None, *drawn)),
        calls.map(lambda call: say(None, *[call] * 200)),
        st.builds(
            lambda content, drawn: say(content, *drawn),
            text,
            st.lists(st.one_of(calls, wild), max_size=3),
        ),
        st.builds(
            lambda drawn, reason: say(None, *drawn, finish_reason=reason),
            st.lists(wild, max_size=3),
            reasons,
        ),
    )
    return st.one_of(kinds)


def agent(completions: list[dict]):
    """As the openai client, which validates nothing."""
    queue = iter(completions)

    async def call(messages, tools, tool_choice, **sampling):
        return construct_type(value=next(queue, say("Hm.")), type_=ChatCompletion)

    return call


async def user(messages, tools, tool_choice, **sampling) -> ChatCompletion:
    """Goes on until the agent has done all that is expected."""
    done = str(messages[-1]["content"]).startswith("All done.")
    return ChatCompletion.model_validate(say("###STOP###" if done else "Go on."))


def essence(info: Tau2RunInfo) -> tuple:
    return (
        info.reward,
        list(info.rewards.values()),
        [(m.role, m.content) for m in info.simulation.messages],
    )


@pytest.mark.parametrize("domain, solo_mode", KINDS)
def test_no_turn_harms_more_than_its_own_episode(domain, solo_mode, capsys):
    workflow = Tau2AgentWorkflow(
        {"domain": domain, "solo_mode": solo_mode, "user_llm": "scripted", "max_steps": MAX_STEPS}
    )
    solvable = (
        task for task in environment.load_tasks(domain).values() if task.evaluation_criteria.actions
    )
    task = next(task for task in solvable if not solo_mode or environment.playable_solo(task))
    says, _ = ground_truth(task, solo_mode)
    workflow.user_llm = None if solo_mode else user
    data, ended = {"task_id": task.id}, Counter()

    async def play(completions: list[dict]) -> tuple[Tau2RunInfo, Tau2RunInfo]:
        """Of a wild episode and an honest one beside it."""
        return await asyncio.gather(
            workflow.play_with(agent(completions), data), workflow.play_with(agent(says), data)
        )

    alone = essence(asyncio.run(play(says))[1])

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
        assert 0 <= info.reward <= 1 and all(-1 <= reward <= 1 for reward in info.rewards.values())
        assert Tau2RunInfo.from_json(info.to_json()).reward == info.reward and info.to_text()
        assert essence(beside) == alone
        ended[info.failure or info.simulation.termination_reason.value] += min(
            len(info.turns), len(completions)
        )

    wild()
    assert ended.total() >= TURNS
    with capsys.disabled():
        print(f"\n{domain}: {ended.total()} turns, by how their episodes ended: {dict(ended)}")
