"""Data in the page: what a browser can read and lay out."""

import base64
import json
import zlib

from examples.tau2.viewer import embedding
from examples.tau2.viewer.conversations import conversation
from examples.tau2.viewer.embedding import MAX_RUN, MAX_TEXT, Packer, bound_texts, browser_json
from tests.scripted import say
from tests.viewer.runs import TASKS, play


def test_texts_are_cut_where_a_browser_could_not_lay_them_out():
    create = ("create_task", {"user_id": "user_1", "title": "A" * 10**6})
    info = play(TASKS[0], [say(None, create), say(None, ("done", {}))])
    shown = bound_texts(conversation(info))
    text = shown["messages"][0]["calls"][0]["arguments"]
    assert "more characters are in the trajectory" in text and len(text) < 1.01 * MAX_TEXT
    assert max(map(len, text.split("\u200b"))) <= MAX_RUN + 100
    assert len(json.dumps(shown)) < 10 * MAX_TEXT


def test_a_number_that_is_not_finite_is_null():
    odd = {"a": [float("nan"), 1.5], "b": float("inf"), "c": "NaN"}
    assert json.loads(browser_json(odd)) == {"a": [None, 1.5], "b": None, "c": "NaN"}


def test_chunks_hold_all_documents_at_their_places(monkeypatch):
    monkeypatch.setattr(embedding, "CHUNK_SIZE", 40)
    documents = [{"text": "é" * length} for length in (5, 30, 50, 1)]
    packer = Packer()
    places = [packer.add(document) for document in documents]
    packed = [zlib.decompress(base64.b64decode(chunk)) for chunk in packer.chunks()]
    chunks = [json.loads(array) for array in packed]
    assert len(chunks) == 3
    assert [chunks[number][position] for number, position in places] == documents
