"""What a model's chat template makes of the prompts that a run will have."""

import asyncio

import pytest

from examples.tau2.cpu.tokenizer import untrained_tokenizer
from examples.tau2.data.dataset import task_rows
from examples.tau2.data.tasks import find_task_row
from examples.tau2.episode import environment
from examples.tau2.episode.config import Tau2EnvConfig
from examples.tau2.training.checks.template import first_prompts, probe_template
from tests.own_tasks import public_set
from tests.templates import FAULTY, TEMPLATES, chat_template

SOLO = (
    "econfig.domain=mock",
    "econfig.solo_mode=true",
    "train_dataset.path=tau2/base",
    "valid_dataset=null",
)
ADVICE = "take another model (actor.path), or put another chat_template.jinja into its folder"


@pytest.fixture
def model(tmp_path):
    """`model(template)`: the option of a folder with a tokenizer that has this chat template."""

    def save(template: str | None) -> str:
        tokenizer = untrained_tokenizer()
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / "model")
        return f"tokenizer_path={tmp_path}/model"

    return save


@pytest.mark.parametrize("options", [(), SOLO], ids=["airline", "solo"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_of_many_families_render_every_prompt(airline, model, name, options):
    problems = list(probe_template(airline(model(TEMPLATES[name]), *options)))
    if name == "Qwen3.5" and options:
        option = model(TEMPLATES[name])
        assert problems == [
            f"{option}, the first prompt of mock (system): the chat template refuses the "
            "conversation (TemplateError: No user query found in messages.); "
            f"set econfig.solo_mode=false, or {ADVICE}"
        ]
    else:
        assert problems == []


@pytest.mark.parametrize("words", FAULTY)
def test_a_fault_of_a_template_is_told_once_with_its_words(airline, model, words):
    option = model(FAULTY[words])
    (problem,) = probe_template(airline(option))
    assert problem.startswith(f"{option}, ") and problem.endswith(f"; {ADVICE}")
    assert words in problem


@pytest.mark.parametrize(
    "refused, kind",
    [
        ("message.role == 'system'", "the first prompt"),
        ("'</think>' in (message.content or '')", "a prompt with thoughts in its history"),
        ("message.tool_calls", "a prompt with a tool call in its history"),
        ("'think' in tools | map(attribute='function.name')", "the first prompt"),
    ],
)
def test_the_kind_of_prompt_is_named(airline, model, refused, kind):
    check = f"{{%- for message in messages if {refused} %}}{{{{- raise_exception('No!') }}}}"
    option = model(chat_template("{{- function | tojson }}", f"{check}{{%- endfor %}}"))
    (problem,) = probe_template(airline(option, "econfig.add_thinking_tool=true"))
    assert problem.startswith(f"{option}, {kind} of airline (system, assistant, user")


def test_every_domain_of_the_data_is_tried(airline, model, tmp_path):
    """The agent of retail has a tool of this name, that of airline has none."""
    refuse = "{%- if 'get_order_details' in tools | map(attribute='function.name') %}"
    template = chat_template(
        "{{- function | tojson }}", refuse + "{{- raise_exception('No orders!') }}{%- endif %}"
    )
    data = f"train_dataset.path={public_set(tmp_path)}"
    problems = list(probe_template(airline(model(template), data)))
    assert (
        "the first prompt of retail (system, assistant, user): " in problems[0]
        and "No orders!" in problems[0]
    )
    assert list(probe_template(airline(model(template), "train_dataset.path=nowhere"))) == []


def test_the_prompts_are_those_of_the_tasks():
    """tau2 greets the user first, unless the task begins in the middle of a conversation."""
    rows = [find_task_row(row, "mock") for row in task_rows("mock", "tau2/base")]
    begins_later = next(row for row in rows if "with_history" in row.task.id)
    first, thoughts, call, both = asyncio.run(first_prompts(Tau2EnvConfig("mock"), rows[0]))
    assert first.roles() == "system, assistant, user"
    assert thoughts.messages == [*first.messages, *thoughts.messages[3:]]
    assert thoughts.messages[3]["content"].startswith("<think>")
    assert [message["role"] for message in call.messages[5:]] == ["assistant", "tool"]
    assert "<think>" in both.messages[7]["content"] and both.messages[7]["tool_calls"]
    assert both.tools == environment.agent_schemas("mock")
    first, *_ = asyncio.run(first_prompts(Tau2EnvConfig("mock"), begins_later))
    assert first.roles() == "system, user, assistant, tool, assistant, user"


@pytest.mark.parametrize("option", ["tokenizer_path=/path/to/model", "tokenizer_path=./nowhere"])
def test_other_checks_tell_of_a_folder_that_is_not_there(airline, option):
    assert list(probe_template(airline(option))) == []


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "its tokenizer cannot be loaded (ValueError: Couldn't instantiate"),
        ({"tokenizer_config.json": "{"}, "its tokenizer cannot be loaded (JSONDecodeError: "),
        ({"tokenizer.json": '{"model": 1}'}, "its tokenizer cannot be loaded ("),
    ],
)
def test_a_folder_without_a_tokenizer_is_named(airline, tmp_path, files, words):
    (tmp_path / "model").mkdir()
    for name, text in files.items():
        (tmp_path / "model" / name).write_text(text)
    option = f"tokenizer_path={tmp_path}/model"
    (problem,) = probe_template(airline(option))
    assert problem.startswith(f"{option}: {words}")
    assert problem.endswith(
        "; give the folder of a model, or its name on a model hub that can be reached"
    )


def test_a_tokenizer_without_a_template_or_an_end_of_turn_is_named(airline, model, tmp_path):
    option = model(None)
    assert list(probe_template(airline(option))) == [f"{option} has no chat template; {ADVICE}"]
    tokenizer = untrained_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "endless")
    (problem,) = probe_template(airline(f"tokenizer_path={tmp_path}/endless"))
    assert "/endless has no eos_token, which ends a turn" in problem


def test_a_model_hub_that_is_not_reached_is_named(airline):
    """Tests run without the hub."""
    (problem,) = probe_template(airline("tokenizer_path=nobody/nothing"))
    assert problem.startswith("tokenizer_path=nobody/nothing: its tokenizer cannot be loaded (")
    assert problem.endswith("or its name on a model hub that can be reached")
