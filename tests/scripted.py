"""Scripted LLMs, in this process or behind a real HTTP server."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

from openai.types.chat import ChatCompletion
from tau2.data_model.tasks import Task

from examples.tau2.episode.completions import assistant_entry, chat_completion

_ids = count()


def say(
    content: str | None = None, *calls: tuple[str, dict | str], finish_reason: str | None = None
) -> dict:
    """Make a completion as JSON, with text and calls of (tool, arguments)."""
    entries = []
    for name, arguments in calls:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        entries.append((f"call_{next(_ids)}", name, text))
    completion = chat_completion(
        assistant_entry(content, entries),
        finish_reason=finish_reason,
        completion_id=f"chatcmpl-{next(_ids)}",
        usage={"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        model="scripted",
    )
    return completion.model_dump(exclude_unset=True)


def ground_truth(task: Task, solo_mode: bool = False) -> tuple[list[dict], list[dict]]:
    """Write what agent and user say when each does the task's expected actions."""
    agent: list[dict] = []
    user: list[dict] = [] if solo_mode else [say("Hello, I need help.")]
    for action in task.evaluation_criteria.actions or []:
        call = say(None, (action.name, action.arguments))
        if solo_mode or action.requestor == "assistant":
            agent.append(call)
        else:
            agent.append(say(f"Please do {action.name}."))
            user += [call, say("Done.")]
    told = " ".join(task.evaluation_criteria.communicate_info or [])
    agent.append(say(None, ("done", {})) if solo_mode else say(f"All done. {told}"))
    if not solo_mode:
        user.append(say("###STOP###"))
    return agent, user


def replay(completions: list[dict]) -> Callable:
    """Make a `CallLLM` that says these completions in turn."""
    queue = iter(completions)

    async def call(messages, tools, tool_choice, **sampling) -> ChatCompletion:
        return ChatCompletion.model_validate(next(queue))

    return call


class LLMServer:
    """An OpenAI-compatible HTTP server on loopback.

    `answer(request)` returns a completion, an (HTTP status, body), raw bytes, or None to close the
    connection without an answer. `requests` holds the bodies of all requests, with the key of their
    Authorization header under "key".
    """

    def __init__(
        self, answer: Callable[[dict], dict | tuple[int, dict] | bytes | None], delay: float = 0.0
    ):
        self.requests: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body["key"] = self.headers.get("Authorization", "").removeprefix("Bearer ")
                outer.requests.append(body)
                time.sleep(delay)
                result = answer(body)
                if result is None:
                    self.close_connection = True
                    return
                status, payload = result if isinstance(result, tuple) else (200, result)
                data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                data = b'{"object": "list", "data": []}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 1024

            def handle_error(self, request, client_address):
                """Say nothing of a client that has gone away."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        # the seconds until it notices that it must end
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def is_probe(request: dict) -> bool:
    """Whether a request only asks whether the LLM answers at all."""
    return request["messages"][-1]["content"] == "Say OK."


def in_turn(*answers) -> Callable[[dict], dict]:
    """Make an `answer` that gives these in turn, and the last one for ever."""
    queue = list(answers)

    def answer(_request: dict):
        return queue.pop(0) if len(queue) > 1 else queue[0]

    return answer
