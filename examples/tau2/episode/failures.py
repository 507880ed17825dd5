"""What a failed call of an LLM means: whose fault it is, and whether another call may succeed."""

import json
import re

import httpx
import openai

from examples.tau2.episode.answers import BadAnswer, is_web_page, server_words, url_hint
from examples.tau2.episode.network import connection_problem, proxy_of

# the most characters of an error in a log or a rejection
MAX_DESCRIPTION = 500

# the statuses of a conversation that is too long; 429, for example, limits the tokens of a minute
_CONTEXT_STATUSES = (400, 413, 422, 500)
# the words with which a server says so, in its code, type or message; all in lower case
_CONTEXT_WORDS = re.compile(
    "|".join(
        (
            # AReaL's proxy: rollout.agent.engine_max_tokens, and its default of 32,768 tokens
            r"exceeds max_total_tokens",
            r"is non-positive! max_tokens=",
            # codes of OpenAI, llama.cpp, litellm, GitHub
            r"context_?(length|window)_?exceeded|exceed_context_size|prompt_too_long",
            r"prompt_tokens_exceeded|tokens_limit_reached",
            # OpenAI, vLLM, SGLang, DeepSeek, Mistral, Fireworks
            r"maximum context length",
            r"model's context length",
            # Groq
            r"reduce the length of the (messages|prompt|input)",
            # vLLM
            r"maximum model length|max_model_len|fit into the model",
            r"max_tokens must be at least 1, got -?\d",
            # SGLang, vLLM, Anthropic, Amazon Bedrock, Cohere, Baidu
            r"(prompt|input)( tokens)?( \([^)]*\))?( is)? too long|too many( input)? tokens",
            r"exceeds (the )?maximum (allowed|input) length|model's maximum prompt length",
            r"max input characters",
            # Text Generation Inference, Together
            r"inputs`?( tokens)? (\+ `?max_new_tokens`? must be|must have less than)",
            # TensorRT-LLM
            r"max_seq_len|max_num_tokens|max_input_len",
            # DashScope, Zhipu, Moonshot, Volcengine
            r"range of input length should be",
            r"prompt exceeds max length|\A1261\Z",
            r"exceeded model token limit",
            r"exceed max message tokens|token length exceed",
            # llama.cpp, LM Studio, MiniMax, Gemini, and whoever else speaks of context or tokens
            r"context (length|window|size|limit)\b.{0,60}\b(exceed|overflow)",
            r"(exceed|longer than|larger than|greater than|too long|too large|overflow)\w*"
            r"\b.{0,60}\bcontext( length| window| size| limit)",
            r"context length of only",
            r"\b(input|prompt|message)s?\b.{0,40}\btokens?\b.{0,60}\bexceed",
            r"\btokens? in the (prompt|request)\b.{0,60}\bexceed",
        )
    )
)
# AReaL 1.0.4's proxy cannot express an empty completion, and answers with this error
_ONLY_STOP_TOKENS = "cannot strip stop tokens"
# the statuses by which a server refuses what a request holds
_REFUSED_CONTENT = (400, 413, 422)


class ContextWindowExceeded(Exception):
    """The conversation no longer fits the agent's context window."""


class EmptyCompletion(Exception):
    """The agent generated stop tokens only, and the server kept no completion."""


class ConversationRefused(Exception):
    """The agent's server refused a conversation that it had answered a turn before."""


class UserSimulatorError(Exception):
    """The user simulator gave no usable answer, so the episode says nothing about the agent."""


class JudgeError(Exception):
    """The judge gave no usable verdict, so the episode has no reward."""


class UnusableAnswer(Exception):
    """The answer of the user LLM or of the judge says nothing, or cannot be read."""


def agent_failure(
    error: openai.APIStatusError, is_answered: bool = False
) -> ContextWindowExceeded | EmptyCompletion | ConversationRefused | None:
    """Tell what a server's error means for the episode; None if it only concerns the server.

    `is_answered` tells whether the server has answered the same conversation before. It then
    refuses what the last turn has added: probably the conversation has become too long.
    """
    if exceeds_context_window(error):
        return ContextWindowExceeded(error.message)
    if _ONLY_STOP_TOKENS in error.message:
        return EmptyCompletion(error.message)
    if is_answered and error.status_code in _REFUSED_CONTENT:
        return ConversationRefused(
            "the agent's server refuses a conversation that it answered a turn before; "
            f"perhaps it has become too long for the server: {describe_error(error)}"
        )
    return None


def exceeds_context_window(error: openai.APIStatusError) -> bool:
    """Whether an error says that the conversation does not fit the context window."""
    # the class is litellm's
    if any(base.__name__ == "ContextWindowExceededError" for base in type(error).__mro__):
        return True
    if error.status_code not in _CONTEXT_STATUSES:
        return False
    said = (error.code, error.type, error.message)
    return any(_CONTEXT_WORDS.search(str(words).lower()) for words in said)


def is_busy(error: Exception) -> bool:
    """Whether a server refuses a call only for now: it limits the rate, or is overloaded."""
    return (
        isinstance(error, openai.APIStatusError)
        # Anthropic has 529 for 503
        and error.status_code in (429, 503, 529)
        and error.code != "insufficient_quota"
    )


def is_transient(error: Exception) -> bool:
    """Whether a failed call may succeed later.

    Any call may, unless the server has refused it: with the statuses 400, 401, 404, ...
    """
    # litellm's errors derive from openai's
    if isinstance(error, openai.APIStatusError):
        return is_busy(error) or error.status_code in (408, 409, 425) or error.status_code >= 500
    # a connection that breaks, or a body that is cut off or is not what the API promises
    return isinstance(
        error, (UnusableAnswer, BadAnswer, openai.APIError, httpx.HTTPError, json.JSONDecodeError)
    )


def is_refusal(error: Exception) -> bool:
    """Whether a server refuses every call of an episode, whatever the conversation is.

    A wrong key or an unknown model is such a refusal; the same episode again would fail again.
    """
    cause = error.__cause__ if isinstance(error, UserSimulatorError | JudgeError) else error
    return (
        isinstance(cause, openai.APIStatusError)
        and not is_transient(cause)
        and not exceeds_context_window(cause)
    )


def retry_after(error: Exception) -> float:
    """Read how many seconds the server asks to wait before the next call; 0.0 if it does not."""
    response = getattr(error, "response", None)
    value = response.headers.get("Retry-After", "") if response is not None else ""
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else 0.0


def describe_error(error: BaseException) -> str:
    """Describe an error in one line of at most `MAX_DESCRIPTION` characters.

    The line has the error's type and message, and its first cause if the message does not name it.
    The error of a server is told in the server's words, with the URL where that may be wrong.
    """
    name = type(error).__name__
    if isinstance(error, openai.APIStatusError):
        text = f"{name}: {error.status_code}: {_words(error)}"
    elif isinstance(error, openai.APIConnectionError):
        text = f"no answer: {_connection_words(error)}"
    else:
        text = f"{name}: {error}"
        cause = error
        while cause.__cause__:
            cause = cause.__cause__
        if str(cause) not in text and not isinstance(cause, openai.APIError):
            text += f" ({cause})"
    return " ".join(text.split())[:MAX_DESCRIPTION]


def missing_package(error: ModuleNotFoundError) -> str:
    """Say which package to install after an import that failed."""
    package = str(error.name).partition(".")[0]
    return f"the package {package} is missing (pip install {package})"


def _words(error: openai.APIStatusError) -> str:
    body = error.body or error.message
    words = server_words(body)
    if _has_url(error) and (error.status_code in (404, 405) or is_web_page(str(body))):
        words += url_hint(error.request.url)
    return words


def _connection_words(error: openai.APIConnectionError) -> str:
    problem = connection_problem(error) or error.message
    if not _has_url(error):
        return problem
    url = error.request.url
    proxy = proxy_of(str(url))
    if proxy is None:
        return f"{url}: {problem}"
    return (
        f"{url}: {problem}; the request went to the proxy of {proxy}: "
        f"if it must not, add {url.host} to NO_PROXY"
    )


def _has_url(error: openai.APIError) -> bool:
    """Whether an error has the URL that was called; those of litellm have one that is made up."""
    return type(error).__module__.startswith("openai")
