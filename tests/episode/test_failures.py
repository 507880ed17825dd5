"""What failed calls mean: the conversation is too long, the server is busy, the call is refused."""

import json

import httpx
import litellm
import openai
import pytest

from examples.tau2.episode.answers import BadAnswer
from examples.tau2.episode.failures import (
    MAX_DESCRIPTION,
    ContextWindowExceeded,
    ConversationRefused,
    EmptyCompletion,
    UnusableAnswer,
    UserSimulatorError,
    agent_failure,
    describe_error,
    is_busy,
    is_refusal,
    is_transient,
    retry_after,
)

URL = "http://server/v1/chat/completions"
TOO_LONG = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000",
    "This model's maximum context length is 40960 tokens. However, you requested 8192 output tokens"
    " and your prompt contains at least 32769 input tokens",
    "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context "
    "length is 40960 tokens and your request has 36000 input tokens",
    "The decoder prompt (length 41772) is longer than the maximum model length of 40960.",
    "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
    "The engine prompt length 9000 exceeds the max_model_len 8192. Please reduce prompt.",
    "Input prompt (9000 tokens) is too long and exceeds limit of 8192",
    "You passed 40961 input tokens and requested 0 output tokens. However, the model's context "
    "length is only 40960 tokens",
    "You passed 99 input characters and requested 5 output tokens. However, the model's context "
    "length is only 40 tokens",
    "max_tokens must be at least 1, got -12.",
    "The input (41000 tokens) is longer than the model's context length (40960 tokens).",
    "Input length (41000 tokens) exceeds the maximum allowed length (40959 tokens).",
    "Requested token count exceeds the model's maximum context length of 40960 tokens.",
    "the request exceeds the available context size. try increasing the context size",
    "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
    "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
    "prompt is too long: 208310 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
    "Input is too long for requested model.",
    "The input token count (1048600) exceeds the maximum number of tokens allowed (1048576).",
    "Range of input length should be [1, 129024]",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
    "context length",
    "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
    "Please reduce the length of the messages or completion.",
    "Invalid request: Your request exceeded model token limit: 8192",
    "invalid params, context window exceeds limit (2013)",
    "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded "
    "with context length of only 4096 tokens",
    "prompt length (10) + max_tokens (5) exceeds max_total_tokens (12)",
    "Input Tokens Exceeded: Number of input tokens exceed maximum length",
    "too many tokens: size limit exceeded by 11326 tokens. Try using shorter or fewer inputs.",
    "Total message token length exceed model limit",
    "the max input characters is 24000",
    "prompt tokens too long",
    "Messages have 140000 tokens, which exceeds the max limit of 131072 tokens.",
    "Input tokens exceed the configured limit of 272000 tokens.",
    "prompt token count of 130000 exceeds the limit of 128000",
    "The sum of prompt length (5000.0), query length (0) should not exceed max_num_tokens (4096)",
    "default_max_tokens (-10) = max_seq_len (4096) - splited_prompt_len",
    "The total number of tokens in the request (prompt and completion) exceeds the limit",
    "inputs tokens + max_new_tokens must be <= 4097",
    "litellm.BadRequestError: ContextWindowExceededError: boom",
    "Upstream said context_length_exceeded",
]


def error(status: int, body, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    """Make the error that openai's client raises for a response."""
    request = httpx.Request("POST", URL)
    data = body if isinstance(body, str) else json.dumps(body)
    response = httpx.Response(status, headers=headers, text=data, request=request)
    return openai.AsyncOpenAI(api_key="k")._make_status_error_from_response(response)


@pytest.mark.parametrize("words", TOO_LONG)
def test_a_full_context_window_is_known_by_the_servers_words(words):
    for body in (
        {"object": "error", "message": words, "type": "BadRequestError", "code": 400},
        {"error": {"message": words, "type": "invalid_request_error"}},
        {"error": words, "error_type": "validation"},
        {"detail": words},
        words,
    ):
        assert isinstance(agent_failure(error(400, body)), ContextWindowExceeded), body


@pytest.mark.parametrize(
    "full",
    [
        error(400, {"error": {"code": "context_length_exceeded", "message": "no"}}),
        error(400, {"error": {"type": "exceed_context_size_error", "message": "no"}}),
        error(400, {"error": {"code": "ContextLengthExceeded", "message": "no"}}),
        error(400, {"error": {"code": "model_max_prompt_tokens_exceeded", "message": "no"}}),
        error(413, {"error": {"code": "tokens_limit_reached", "message": "no"}}),
        error(400, {"error": {"code": "1261", "message": "no"}}),
        error(500, {"error": {"message": "Prompt length exceeds max_input_len"}}),
        litellm.ContextWindowExceededError("no", "m", "anthropic"),
    ],
)
def test_a_full_context_window_is_known_by_code_and_type(full):
    assert isinstance(agent_failure(full), ContextWindowExceeded)


@pytest.mark.parametrize(
    "status, words",
    [
        (429, "Request too large for m on tokens per min: context length 5 exceeds limit"),
        (400, "max_tokens (8192) exceeds this model's maximum output of 4096"),
        (400, "`max_tokens` must be at most `8192`, less than the `context_window` of this model"),
        (400, "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens"),
        (400, "Invalid 'messages[3].tool_calls[0].id': string too long"),
        (400, "thinking.budget_tokens: max_tokens must be greater than thinking.budget_tokens"),
        (402, "Prompt tokens limit exceeded: 5000 > 1000"),
        (403, "The context window of your plan: exceeded"),
        (404, "Model with context length of only 4k not found"),
        (503, "Request queue is full: maximum context length of queue exceeded"),
        (500, "context deadline exceeded"),
        (413, "image exceeds 5 MB maximum: 5316852 bytes > 5242880 bytes"),
        (400, "messages: roles must alternate"),
        (400, "The response was filtered"),
        (500, "CUDA out of memory"),
        (401, "wrong key"),
    ],
)
def test_other_errors_are_the_servers(status, words):
    assert agent_failure(error(status, {"error": {"message": words}})) is None


def test_a_completion_of_stop_tokens_only_is_empty():
    words = "All output_tokens are EOS; cannot strip stop tokens without removing entire output"
    assert isinstance(agent_failure(error(500, {"detail": words})), EmptyCompletion)


def test_a_refusal_of_what_was_answered_a_turn_before_says_so():
    unknown = error(400, {"error": {"message": "jinja says no"}})
    assert agent_failure(unknown) is None
    failure = agent_failure(unknown, is_answered=True)
    assert isinstance(failure, ConversationRefused)
    assert "answered a turn before" in str(failure) and "jinja says no" in str(failure)
    assert agent_failure(error(500, "oops"), is_answered=True) is None


QUOTA = {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}


@pytest.mark.parametrize(
    "failed, busy, transient, refusal",
    [
        (error(429, "slow down"), True, True, False),
        (error(503, "starting"), True, True, False),
        (error(529, "overloaded"), True, True, False),
        (error(500, "oops"), False, True, False),
        (error(408, "late"), False, True, False),
        (error(429, QUOTA), False, False, True),
        (error(400, "bad"), False, False, True),
        (error(401, "bad key"), False, False, True),
        (error(402, "no credits"), False, False, True),
        (error(404, "no model"), False, False, True),
        (error(400, {"error": {"message": TOO_LONG[0]}}), False, False, False),
        (BadAnswer("cut"), False, True, False),
        (UnusableAnswer("empty"), False, True, False),
        (openai.APIConnectionError(request=httpx.Request("POST", URL)), False, True, False),
        (RuntimeError("bug"), False, False, False),
    ],
)
def test_whether_another_call_may_succeed(failed, busy, transient, refusal):
    found = is_busy(failed), is_transient(failed), is_refusal(failed)
    assert found == (busy, transient, refusal)


def test_the_users_refusal_is_a_refusal():
    failed = UserSimulatorError("x")
    failed.__cause__ = error(401, "bad key")
    assert is_refusal(failed)
    failed.__cause__ = UnusableAnswer("empty")
    assert not is_refusal(failed)


@pytest.mark.parametrize("value, seconds", [("7", 7), ("0.5", 0.5), ("Wed, 21 Oct", 0), ("-1", 0)])
def test_the_wait_that_a_server_asks_for(value, seconds):
    assert retry_after(error(429, "slow", {"Retry-After": value})) == seconds
    assert retry_after(BadAnswer("x")) == 0


@pytest.mark.parametrize(
    "failed, text",
    [
        (error(400, {"error": {"message": "bad\nthing"}}), "BadRequestError: 400: bad thing"),
        (error(404, {"detail": "Not Found"}), f"NotFoundError: 404: Not Found ({URL})"),
        (
            error(502, "<html><title>Bad Gateway</title></html>"),
            f"InternalServerError: 502: a web page (Bad Gateway) ({URL})",
        ),
        (
            litellm.NotFoundError("no such model", "m", "anthropic"),
            "NotFoundError: 404: litellm.NotFoundError: no such model",
        ),
        (
            litellm.APIConnectionError("gone", "anthropic", "m"),
            "no answer: litellm.APIConnectionError: gone",
        ),
        (
            openai.APIConnectionError(request=httpx.Request("POST", URL)),
            f"no answer: {URL}: Connection error.",
        ),
        (ValueError("a\nb"), "ValueError: a b"),
        (KeyError("x" * 1000), "KeyError: '" + "x" * (MAX_DESCRIPTION - 11)),
    ],
)
def test_errors_are_told_in_a_line(failed, text):
    assert describe_error(failed) == text


def test_a_cause_is_told_if_the_message_does_not_name_it():
    failed = ValueError("bad file")
    failed.__cause__ = OSError("no space")
    assert describe_error(failed) == "ValueError: bad file (no space)"
    failed.__cause__ = OSError("bad")
    assert describe_error(failed) == "ValueError: bad file"
