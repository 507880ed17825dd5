"""Supervised samples are, token for token, what AReaL trains on when a model has said the same through its proxy."""

import asyncio
import json
from pathlib import Path

import pytest

from examples.tau2 import expert
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.cpu.tokenizer import train_tokenizer
from examples.tau2.episode import environment
from examples.tau2.sft import check, load_samples
from examples.tau2.training.launch import ConfigError
from tests.areal_proxy import Proxy, tool_call
from tests.scripted import LLMServer, in_turn, say

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "examples/tau2/config_sft_cpu.yaml"
CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Important Meeting"}')
UMLAUT = tool_call("create_task", '{"user_id": "größer", "title": "Important Meeting"}')
USERS, DONE = tool_call("get_users", "{}"), tool_call("done", "{}")
THINK = tool_call("think", '{"thought": "Who is it?"}')


@pytest.fixture(scope="module")
def tokenizer():
    """Of bytes, and of the tokens of the chat format."""
    return train_tokenizer([""], vocab_size=300, min_frequency=2)


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory) -> Path:
    """A folder that is enough of a model for a plan."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(folder)
    return folder


def rollout(
    tokenizer, folder: Path, econfig: dict, answers: list[str], task_id: str
) -> list[tuple[list, list]]:
    """(input_ids, loss_mask) of each turn as AReaL trains on it; the trajectory goes to the folder."""
    with Proxy(in_turn(*answers), tokenizer=tokenizer) as proxy:
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


def test_prompts_are_those_of_areals_proxy_for_every_row_of_the_public_format(tokenizer, tmp_path):
    """Flat or nested calls, parsed or not, thoughts apart, keys that OpenAI does not have: the prompt is the proxy's."""
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
    """Qwen3's way: where the prompt ends with an empty thought, so does what comes before the answer."""
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
        match="line 1-10: the chat template does not render the answer as a continuation",
    ):
        load_samples(tmp_path / "turns.jsonl", tokenizer)


def plan(model: Path, tmp_path: Path, *overrides: str):
    expert.main([f"{tmp_path}/turns.jsonl", "--domain", "mock", "--split", "base", "--solo-mode"])
    paths = [
        f"++train_dataset.path={tmp_path}/turns.jsonl",
        f"++actor.path={model}",
        f"++cluster.fileroot={tmp_path}/runs",
    ]
    paths.append("++actor.mb_spec.max_tokens_per_mb=8192")  # this tokenizer's are bytes
    return check(["--config", str(CONFIG), *paths, *(f"++{override}" for override in overrides)])


def test_a_good_plan_is_summed_up_and_writes_nothing(model, tmp_path):
    job = plan(
        model,
        tmp_path,
        "train_dataset.batch_size=4",
        f"valid_dataset={{path: {tmp_path}/turns.jsonl, type: sft}}",
    )
    for part in (str(model), "10 turns", "4 a batch", "archon:d1 on 1 x 0 GPUs", "10 epochs"):
        assert part in job.summary
    assert job.timeout == 1500
    assert not (tmp_path / "runs").exists()


def test_all_problems_are_said_at_once(model, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{\n\n[]\n")
    wrong = {
        "train_dataset.batch_size=16": "has 10 turns of solved dialogs, fewer than a batch (train_dataset.batch_size=16)",
        "actor.mb_spec.max_tokens_per_mb=128": "actor.mb_spec.max_tokens_per_mb=128 is less than the longest turn",
        "actor.optimizer.lr=0": "actor.optimizer.lr=0",
        "actor.backend=sglang:d1": "actor needs one of archon, megatron, fsdp",
        "scheduler.type=ray": "scheduler.type=ray: choose local or slurm",
        "cluster.fileroot=/proc/x": "cluster.fileroot=/proc/x cannot be written",
        "nonsense=1": "nonsense",
        "actor.path=./nowhere": "actor.path=./nowhere is no folder",
        f"valid_dataset={{path: {bad}, type: sft}}": f"{bad}, line 1: no JSON",
    }
    with pytest.raises(ConfigError) as error:
        plan(model, tmp_path, *wrong, f"tokenizer_path={model}")
    for expected in (*wrong.values(), f"{bad}, line 3: messages is no list"):
        assert any(expected in problem for problem in error.value.problems), (
            expected,
            error.value.problems,
        )
    assert len(error.value.problems) == len(wrong) + 2  # the root of name_resolve is below fileroot


@pytest.mark.parametrize(
    "overrides, saved",
    [
        (["total_train_steps=9"], False),
        (["total_train_steps=9", "saver.freq_steps=3"], True),
        (["saver.freq_epochs=3"], False),
        (["saver.freq_epochs=null"], False),
        (["saver.freq_epochs=null", "saver.freq_steps=10"], True),
    ],
)
def test_a_run_that_would_not_save_its_last_step_is_refused(model, tmp_path, overrides, saved):
    if saved:
        assert plan(model, tmp_path, *overrides)
        return
    with pytest.raises(ConfigError, match="the last of .* is not saved"):
        plan(model, tmp_path, *overrides)


@pytest.mark.parametrize(
    "override, expected",
    [
        (
            "train_dataset.path=nowhere.jsonl",
            "train_dataset.path=nowhere.jsonl cannot be read: No such file",
        ),
        ("tokenizer_path=./nowhere", "tokenizer_path=./nowhere"),
    ],
)
def test_files_that_are_not_there_are_named(model, tmp_path, override, expected):
    with pytest.raises(ConfigError, match=expected):
        plan(model, tmp_path, override)


def test_of_the_config_for_gpus_only_the_data_and_the_storage_are_to_be_set(
    model, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    set_by_user = [f"++cluster.fileroot={tmp_path}", f"++tokenizer_path={model}"]
    with pytest.raises(ConfigError) as error:
        check(["--config", "examples/tau2/config_sft_8b.yaml", *set_by_user])
    assert error.value.problems == [
        "train_dataset.path=/path/to/tau2_sft_train.jsonl is a placeholder; set it"
    ]
