"""Small chat templates that ask for the same input as those of families of models."""

from examples.tau2.cpu.tokenizer import CHAT_TEMPLATE

_TEMPLATE = """\
BEFORE
{%- if messages[0].role == 'system' or tools %}{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content }}{%- endif %}
{%- for tool in tools or [] %}{{- '\n' + tool | tojson }}{%- endfor %}
{{- '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|im_start|>assistant\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}{%- set function = call.function %}
{{- '\n' if message.content or not loop.first }}{{- '<tool_call>\n' }}CALL{{- '\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>\n' }}
{%- elif message.role == 'user' %}{{- '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}{{- '<|im_start|>user\n<tool_response>\n' + message.content }}
{{- '\n</tool_response><|im_end|>\n' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""


def chat_template(call: str, before: str = "") -> str:
    """Make a template that begins with `before`, and writes `call` for a call of `function`."""
    return _TEMPLATE.replace("CALL", call).replace("BEFORE", before)


def _in_json(arguments: str) -> str:
    """Write a call whose arguments are made by this expression."""
    return """{{- '{"name": "' + function.name + '", "arguments": ' }}{{- ARGUMENTS }}}""".replace(
        "ARGUMENTS", arguments
    )


_WHOLE = "{{- function | tojson }}"
_TAGS = """\
{{- '<function=' + function.name + '>\n' }}{%- for name, value in function.arguments | items %}
{{- '<parameter=' + name + '>\n' + (value if value is string else value | tojson) }}
{{- '\n</parameter>\n' }}{%- endfor %}{{- '</function>' }}"""
_NEEDS_USER = """\
{%- if not messages | selectattr('role', 'equalto', 'user') | list %}
{{- raise_exception('No user query found in messages.') }}{%- endif %}"""
_ONE_CALL = """\
{%- for message in messages if message.tool_calls %}{%- if message.tool_calls | length != 1 %}
{{- raise_exception('One call only!') }}{%- endif %}{%- endfor %}"""
_ALTERNATES = """\
{%- for message in messages[1:] %}
{%- if message.role != ('assistant' if loop.index0 % 2 else 'user') %}
{{- raise_exception('Roles must alternate.') }}{%- endif %}{%- endfor %}"""

_IN_OBJECTS = _in_json("function.arguments | tojson")
_KNOWS_NO_TOOLS = "{%- if tools is not none %}{{- 'Environment: ipython\n' }}{%- endif %}"

# what SGLang gives a template is what these take
TEMPLATES = {
    "Qwen3": CHAT_TEMPLATE.read_text(),
    "Qwen2.5": chat_template(_IN_OBJECTS),
    "Qwen3-Coder": chat_template(_TAGS),
    "Qwen3.5": chat_template(_TAGS, _NEEDS_USER),
    "Llama 3.1": chat_template(_IN_OBJECTS, _ONE_CALL + _KNOWS_NO_TOOLS),
    "Mistral": chat_template(_WHOLE),
    "GLM": chat_template(
        "{{- function.name }}{%- for name, value in function.arguments.items() %}"
        "{{- '\n' + name + ': ' }}{{- value | tojson }}{%- endfor %}"
    ),
    "indents an object": chat_template(_in_json("function.arguments | tojson(indent=2)")),
}
# templates that refuse a conversation, or leave a part out, by what is said of them
FAULTY = {
    "leaves the tools out": chat_template(_WHOLE).replace("in tools or []", "in []"),
    "leaves tool calls out": chat_template("{{- 'a call' }}"),
    "leaves results of tools out": chat_template(_WHOLE).replace("== 'tool'", "== 'result'"),
    "TemplateError: Roles must alternate.": chat_template(_WHOLE, _ALTERNATES),
    "UndefinedError: 'dict object' has no attribute 'thoughts'": chat_template(
        "{{- message.thoughts + function.name }}"
    ),
    # DeepSeek's, which takes the arguments as a text
    'TypeError: can only concatenate str (not "dict") to str': chat_template(
        "{{- function.name + '\n```json\n' + function.arguments }}"
    ),
    'TypeError: can only concatenate str (not "int") to str': chat_template(
        "{%- for name, value in function.arguments | items %}{{- name + value }}{%- endfor %}"
    ),
    "TemplateSyntaxError": "{% for",
}
