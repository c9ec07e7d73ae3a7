"""An answer about many files: bounded, and written beside the requests of others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.embedder import Embedder
from serving.server import model_routes, response_bodies
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from tests.servers import refused
from tests.sounds import encoded

ONE_SAMPLE = ("files", ("a.wav", encoded(np.full(1, 0.1, np.float32))))


@pytest.fixture(scope="module")
def app():
    return create_app(Pipeline(Embedder.load("demo/model", "onnxruntime"), Limits()))


def test_more_scores_than_one_answer_may_have_are_refused_with_the_way_out(app):
    labels = quote(",".join(f"cat {i}" for i in range(1000)))
    answer = TestClient(app).post(f"/v1/classify?labels={labels}", files=101 * [ONE_SAMPLE])
    assert refused(answer, 422) == (
        "got 101 files with 1000 scores each; wanted at most 100000 scores in one answer; send fewer files at a time, "
        "or fewer labels"
    )


def test_the_bundles_own_labels_count_too_but_one_file_is_always_answered(app, monkeypatch):
    client = TestClient(app)
    n_classes = len(client.get("/v1/model").json()["classes"])
    monkeypatch.setattr(response_bodies, "MAX_SCORES", 2 * n_classes)
    assert client.post("/v1/classify", files=2 * [ONE_SAMPLE]).status_code == 200
    assert f"got 3 files with {n_classes} scores" in refused(client.post("/v1/classify", files=3 * [ONE_SAMPLE]), 422)
    monkeypatch.setattr(response_bodies, "MAX_SCORES", 1)
    assert client.post("/v1/classify", files=[ONE_SAMPLE]).status_code == 200


def test_others_are_answered_while_the_answer_about_several_files_is_written(app, monkeypatch):
    begun, may_end, rank = threading.Event(), threading.Event(), model_routes.rank_embedding

    def rank_slowly(*arguments):
        begun.set()
        may_end.wait(60)
        return rank(*arguments)

    monkeypatch.setattr(model_routes, "rank_embedding", rank_slowly)
    with ThreadPoolExecutor(2) as threads, TestClient(app) as client:
        try:
            answer = threads.submit(client.post, "/v1/classify", files=2 * [ONE_SAMPLE])
            assert begun.wait(60)
            assert threads.submit(client.get, "/healthz").result(20).status_code == 200
        finally:
            may_end.set()
        results = answer.result(60).json()["results"]
    assert [(each["file"], each["ranking"][0]["label"] != "") for each in results] == 2 * [("a.wav", True)]
