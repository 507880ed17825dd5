"""Samples are, token for token, what AReaL trains on when a model says the same to its proxy."""

import asyncio
import json
from pathlib import Path

import pytest
from areal.experimental.openai import client

from examples.tau2 import expert
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.cpu.tokenizer import train_tokenizer
from examples.tau2.episode import environment
from examples.tau2.training.areal.proxies import render_as_sglang
from examples.tau2.training.samples import load_samples
from tests.areal_proxy import Proxy, tool_call
from tests.scripted import LLMServer, in_turn, say
from tests.templates import TEMPLATES

ROOT = Path(__file__).parents[2]
CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Important Meeting"}')
UMLAUT = tool_call("create_task", '{"user_id": "größer", "title": "Important Meeting"}')
USERS, DONE = tool_call("get_users", "{}"), tool_call("done", "{}")
THINK = tool_call("think", '{"thought": "Who is it?"}')


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer whose tokens are bytes, and those of the chat format."""
    return train_tokenizer([""], vocab_size=300, min_frequency=2)


@pytest.fixture(autouse=True)
def proxy_renders_as_sglang(monkeypatch):
    monkeypatch.setattr(client, "apply_chat_template", client.apply_chat_template)
    render_as_sglang()


def rollout(
    tokenizer, folder: Path, econfig: dict, answers: list[str], task_id: str, **agent_config: str
) -> list[tuple[list, list]]:
    """Play an episode; return (input_ids, loss_mask) of each turn as AReaL trains on it.

    The trajectory goes to the folder.
    """
    with Proxy(in_turn(*answers), tokenizer=tokenizer, **agent_config) as proxy:
        agent = Tau2AgentWorkflow(econfig, {"max_completion_tokens": 500}, output_dir=str(folder))
        interactions = asyncio.run(
            proxy.workflow(agent).arun_episode(None, {"task_id": task_id})
        ).values()
    tensors = [interaction.to_tensor_dict() for interaction in interactions]
    return [
        (tensor["input_ids"][0].tolist(), tensor["loss_mask"][0].tolist()) for tensor in tensors
    ]


SOLO = {"domain": "mock", "solo_mode": True}
EPISODES = {
    "calls": (SOLO, [USERS, CREATE, DONE]),
    "not ascii": (SOLO, [UMLAUT, CREATE, DONE]),
    "thoughts": (
        SOLO,
        [f"<think>\nWho?\n</think>\n\n\n{USERS}", f"<think>\nHm.\n</think>\n\n\n{CREATE}", DONE],
    ),
    "two calls": (SOLO, [f"{USERS}\n{CREATE}", DONE]),
    "the thinking tool": ({**SOLO, "add_thinking_tool": True}, [THINK, CREATE, DONE]),
    "a user": (
        {"domain": "mock"},
        ["<think>\nHm.\n</think>\n\nFor whom?", CREATE, "<think>\nSo.\n</think>\n\nIt is done."],
    ),
}


@pytest.mark.parametrize("name", EPISODES)
def test_samples_are_what_areal_makes_of_the_same_episode(tokenizer, tmp_path, name):
    econfig, answers = EPISODES[name]
    with LLMServer(in_turn(say("A task, please."), say("user_1"), say("###STOP###"))) as user:
        if not econfig.get("solo_mode"):
            econfig = {**econfig, "user_llm_base_url": user.base_url}
        trained_on = rollout(tokenizer, tmp_path / "generated", econfig, answers, "create_task_1")
    assert expert.main([f"{tmp_path}/turns.jsonl", "--trajectories", f"{tmp_path}/generated"]) == 0
    samples = load_samples(tmp_path / "turns.jsonl", tokenizer)
    assert len(trained_on) == len(answers)
    assert [
        (sample["input_ids"].tolist(), sample["loss_mask"].tolist()) for sample in samples
    ] == trained_on


def test_samples_by_a_template_that_takes_objects(tokenizer, tmp_path, monkeypatch):
    """Qwen3-Coder's model writes arguments in tags; a proxy of our engines renders them again."""
    monkeypatch.setattr(tokenizer, "chat_template", TEMPLATES["Qwen3-Coder"])
    create = "<tool_call>\n<function=create_task>\n" + "".join(
        f"<parameter={name}>\n{value}\n</parameter>\n"
        for name, value in (("user_id", "user_1"), ("title", "Important Meeting"))
    )
    answers = [
        f"{create}</function>\n</tool_call>",
        "<tool_call>\n<function=done>\n</function>\n</tool_call>",
    ]
    trained_on = rollout(
        tokenizer,
        tmp_path / "generated",
        SOLO,
        answers,
        "create_task_1",
        tool_call_parser="qwen3_coder",
    )
    assert expert.main([f"{tmp_path}/turns.jsonl", "--trajectories", f"{tmp_path}/generated"]) == 0
    samples = load_samples(tmp_path / "turns.jsonl", tokenizer)
    assert [
        (sample["input_ids"].tolist(), sample["loss_mask"].tolist()) for sample in samples
    ] == trained_on
    assert len(trained_on) == 2


def test_prompts_are_those_of_areals_proxy_for_every_row_of_the_public_format(tokenizer, tmp_path):
    """The rows have flat or nested calls, parsed or not, and keys that OpenAI does not have."""
    call = {"name": "get_user_details", "arguments": {"user_id": "mia_li_3668"}}
    nested = {
        "id": "call_7",
        "type": "function",
        "function": {**call, "arguments": json.dumps(call["arguments"])},
    }
    messages = [
        {"role": "system", "content": "Policy."},
        {"role": "user", "content": "Hi", "turn_idx": 0},
        {"role": "assistant", "content": None, "tool_calls": [nested]},
        {"role": "tool", "content": "{}", "tool_call_id": "call_7"},
    ]
    metadata = {
        "source_dialog_id": "airline_dialog_42",
        "turn_index": 1,
        "correct": 1,
        "reward": 1.0,
    }
    rows = [
        {"messages": [*messages[:2], {**messages[2], "tool_calls": [call]}, messages[3]]},
        {"messages": messages},
    ]
    answer = {
        "role": "assistant",
        "content": "Hello Mia.",
        "thinking": "That is Mia.",
        "tool_calls": None,
    }
    turns = tmp_path / "turns.jsonl"
    turns.write_text(
        "".join(json.dumps({**row, "answer": answer, "metadata": metadata}) + "\n" for row in rows)
    )
    prompts = []
    with Proxy(lambda prompt: prompts.append(prompt) or "ok", tokenizer=tokenizer) as proxy:
        _, key = proxy.session()
        from openai import OpenAI

        OpenAI(base_url=proxy.address, api_key=key).chat.completions.create(
            model="",
            messages=messages,
            tools=environment.agent_schemas("airline"),
            max_completion_tokens=8,
        )
    for sample in load_samples(turns, tokenizer):
        ids, mask = sample["input_ids"], sample["loss_mask"]
        assert tokenizer.decode(ids[~mask]) == prompts[0]
        assert (
            tokenizer.decode(ids[mask]) == "<think>\nThat is Mia.\n</think>\n\nHello Mia.<|im_end|>"
        )


def test_without_thinking_the_empty_thought_is_part_of_the_prompt(tmp_path):
    """As with Qwen3: where an episode's prompt ends with an empty thought, so does this one."""
    tokenizer = train_tokenizer([""], vocab_size=300, min_frequency=2)
    tokenizer.chat_template = (ROOT / "examples/tau2/qwen3_nonthinking.jinja").read_text()
    expert.main([f"{tmp_path}/turns.jsonl", "--domain", "mock", "--split", "base", "--solo-mode"])
    for sample in load_samples(tmp_path / "turns.jsonl", tokenizer):
        ids, mask = sample["input_ids"], sample["loss_mask"]
        assert tokenizer.decode(ids[~mask]).endswith(
            "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )
        assert tokenizer.decode(ids[mask]).startswith("<tool_call>")


def test_a_template_without_ends_of_turns_is_refused(tmp_path):
    tokenizer = train_tokenizer([""], vocab_size=300, min_frequency=2)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    expert.main([f"{tmp_path}/turns.jsonl", "--domain", "mock", "--split", "base", "--solo-mode"])
    with pytest.raises(
        ValueError,
        match="line 1-10: the chat template does not render the answer as a continuation of the "
        "prompt; take another model",
    ):
        load_samples(tmp_path / "turns.jsonl", tokenizer)
