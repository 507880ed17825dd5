"""A loopback server that speaks the part of the Hugging Face hub's API that downloads files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

from examples.tau2.data import hub as hub_files
from examples.tau2.data.dataset import task_rows
from examples.tau2.data.tasks_file import read_tasks_file
from tests.own_tasks import mock_db, mock_entry


class Hub:
    """A hub with data sets, on loopback.

    `commits` has the files of each commit by data set, and `branches` the commit of each branch.
    `downloads` names the files that were downloaded, in order. `token`, if there is one, is the
    only token that the hub accepts. Data sets in `gated` are given to nobody.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.token: str | None = None
        self.downloads: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def commit(self, data_set: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit with these files to a branch, and return the commit's name."""
        text = repr([data_set, len(self.commits.get(data_set, {})), files])
        name = hashlib.sha1(text.encode()).hexdigest()
        self.commits.setdefault(data_set, {})[name] = files
        self.branches.setdefault(data_set, {})[branch] = name
        return name

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def find(self, path: str, token: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer to a request for a file."""
        _, _, owner, name, _, revision, file = path.split("/", 6)
        data_set = f"{owner}/{name}"
        if self.token and not token:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if self.token and token != self.token:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        if data_set in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if data_set not in self.commits:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        revision = unquote(revision)
        commit = self.branches[data_set].get(revision, revision)
        if commit not in self.commits[data_set]:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        headers = {constants.HUGGINGFACE_HEADER_X_REPO_COMMIT: commit}
        body = self.commits[data_set][commit].get(unquote(file))
        if body is None:
            return 404, {**headers, "X-Error-Code": "EntryNotFound"}, b""
        return 200, {**headers, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}, body


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            body = self._answer()
            hub.downloads.append(unquote(self.path.rpartition("/")[2]))
            self.wfile.write(body)

        def _answer(self) -> bytes:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, headers, body = hub.find(self.path, token)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            return body

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@contextmanager
def running_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub without data sets, which huggingface_hub asks, with this folder as its cache."""
    hub = Hub()
    use(hub.endpoint, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    forget()
    yield hub
    forget()
    hub.close()


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have huggingface_hub ask the hub at this URL, as HF_ENDPOINT does in a new process."""
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def forget() -> None:
    """Forget what a process remembers, as a new process does."""
    for remembered in (hub_files.pinned, hub_files.local_database, read_tasks_file, task_rows):
        remembered.cache_clear()


def lunches(*titles: str, db_path: str = "db/mock.json") -> dict[str, bytes]:
    """Make the files of a data set with a task for each title."""
    rows = [json.dumps(mock_entry("ann", title, db_path=db_path)) for title in titles]
    return {
        "tasks.jsonl": "\n".join(rows).encode(),
        "db/mock.json": json.dumps(mock_db("ann")).encode(),
    }
