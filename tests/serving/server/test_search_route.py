"""/v1/search finds what Python finds, by words and by a recording, and refuses the rest in one line."""

import shutil
import signal
import time
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from serving.__main__ import main
from serving.embed import main as embed
from serving.embedder import Embedder
from serving.search.index_builder import build_index
from serving.search.search_index import SearchIndex
from serving.server import response_bodies
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from tests.indexed_sounds import index_sounds, write_recording
from tests.servers import client_of, refused, running
from tests.sounds import encoded, harmonics


def client_with_index(embedder: Embedder, index: SearchIndex) -> TestClient:
    return TestClient(create_app(Pipeline(embedder, Limits(), index=index)))


@pytest.fixture(scope="module")
def client(talker, index) -> TestClient:
    return client_with_index(talker, index)


def rows_of(answer: dict) -> list[tuple[str, float, float]]:
    return [(row["path"], row["start_s"], pytest.approx(row["score"], abs=1e-4)) for row in answer["found"]]


def test_words_find_what_python_finds(client, talker, index):
    answer = client.get("/v1/search", params={"words": "whistle", "and": ["ticking"], "not": ["hiss"], "top": 3})
    assert answer.status_code == 200
    expected = index.find(talker, words="whistle", both=["ticking"], without=["hiss"], top=3)
    assert rows_of(answer.json()) == [(each.path, each.start_s, each.score) for each in expected]
    first = answer.json()["found"][0]
    assert set(first["scores"]) == {"whistle", "ticking", "hiss"}
    assert first["recorded_at"] == expected[0].recorded_at
    assert answer.json()["rows"] == len(index)
    assert answer.json()["unknown_words"] == {}


def test_words_that_the_text_model_does_not_know_are_told(client):
    answer = client.get("/v1/search", params={"words": "whistle zzyx"})
    assert answer.json()["unknown_words"] == {"whistle zzyx": ["zzyx"]}


def test_a_recording_finds_what_python_finds(client, talker, index, recordings):
    path = recordings / "tone" / "0.wav"
    answer = client.post("/v1/search?top=3", content=path.read_bytes()).json()
    expected = index.find(talker, sound=path, top=3)
    assert rows_of(answer) == [(each.path, each.start_s, each.score) for each in expected]
    assert answer["embedding_space"] == talker.manifest.embedding_space
    assert answer["duration_s"] == pytest.approx(3.0)
    answer = client.post("/v1/search?words=ticking&not=hiss", content=path.read_bytes()).json()
    expected = index.find(talker, sound=path, words="ticking", without=["hiss"])
    assert rows_of(answer) == [(each.path, each.start_s, each.score) for each in expected]


def test_a_recording_finds_itself_first_among_recordings(talker, index_folder, tmp_path):
    sounds, source = index_folder.with_name("sounds"), tmp_path / "clips.parquet"
    assert embed([str(talker.bundle.folder), str(sounds), "--out", str(source)]) == 0
    build_index(source, tmp_path / "clips.index", talker.bundle)
    client = client_with_index(talker, SearchIndex.open(tmp_path / "clips.index"))
    own = sounds / "a" / "20190318_235955.wav"  # of which a window is silent
    first = client.post("/v1/search", content=own.read_bytes()).json()["found"][0]
    assert (first["path"], first["score"]) == ("a/20190318_235955.wav", pytest.approx(1, abs=1e-5))


def test_a_silent_recording_of_a_list_does_not_stop_the_others(client, recordings, tmp_path):
    write_recording(tmp_path / "silent.wav", ("zeros",), 1)
    silent, tone = (tmp_path / "silent.wav").read_bytes(), (recordings / "tone" / "0.wav").read_bytes()
    assert "is silent, so no sound is like it" in refused(client.post("/v1/search", content=silent), 422)
    files = [("files", ("silent.wav", silent)), ("files", ("tone.wav", tone)), ("files", ("x.wav", b"RIFF"))]
    first, second, third = client.post("/v1/search?top=1", files=files).json()["results"]
    assert (first["file"], first["status"]) == ("silent.wav", 422)
    assert (second["file"], len(second["found"])) == ("tone.wav", 1)
    assert (third["file"], third["status"]) == ("x.wav", 415)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "words: got none"),
        ("not=hiss", "words: got none"),
        ("words=", "got an empty text"),
        ("words=tone&and=%20", "got an empty text"),
        ("words=tone&not=TONE", "words: got 'TONE' twice"),
        ("words=zzyx", "knows none of its words"),
        (f"words={'x' * 301}", "wanted at most 300 characters"),
        ("&".join(["words=tone", *(f"and=tone{i}" for i in range(20))]), "got 21 texts; wanted at most 20"),
        ("words=tone&top=0", "top: got '0'"),
        ("words=tone&top=1001", "top: got '1001'"),
        ("words=tone&without=hiss", "without: not a parameter of this address"),
    ],
)
def test_what_cannot_be_looked_for_is_422(client, query, words):
    assert words in refused(client.get(f"/v1/search?{query}"), 422)


def test_more_scores_than_one_answer_may_have_are_refused_with_the_way_out(client, monkeypatch):
    monkeypatch.setattr(response_bodies, "MAX_SCORES", 12)
    files = 3 * [("files", ("a.wav", encoded(harmonics(16_000, 0.1))))]
    assert client.post("/v1/search?top=2&words=tone", files=files).status_code == 200
    answer = client.post("/v1/search?top=3&words=tone", files=files)
    assert refused(answer, 422) == (
        "got 3 files with 6 scores each; wanted at most 12 scores in one answer; send fewer files at a time, or a "
        "smaller top"
    )


@pytest.mark.parametrize(
    ("address", "parameter"),
    [
        ("/v1/search?words=tone&words=hiss", "words"),
        ("/v1/search?words=tone&words=tone", "words"),
        ("/v1/search?words=tone&top=3&and=hiss&top=3&and=whistle", "top"),
        ("/v1/embed?windows=true&windows=false", "windows"),
        ("/v1/classify?labels=tone&offset=0&labels=hiss&offset=nonsense", "offset"),
    ],
)
def test_a_parameter_of_one_value_that_is_given_twice_is_400(client, recordings, address, parameter):
    told = f"{parameter}: got 2 values; wanted one: give the parameter once"
    sound = (recordings / "tone" / "0.wav").read_bytes()
    assert refused(client.post(address, content=sound), 400) == told
    if address.startswith("/v1/search"):
        assert refused(client.get(address), 400) == told


def test_without_an_index_both_methods_are_404_with_the_way_out(talker):
    client = client_of(talker)
    for answer in (client.get("/v1/search?words=tone"), client.post("/v1/search", content=b"x")):
        assert refused(answer, 404).startswith("no index to search: start the server with --index INDEX")


def test_words_need_a_text_model(embedder, index):
    client = client_with_index(embedder, index)
    assert client.get("/v1/search?words=tone").status_code == 200
    assert "has no text model" in refused(client.get("/v1/search?words=whistle"), 422)


def test_another_method_is_405_and_both_are_named(client):
    answer = client.put("/v1/search")
    assert refused(answer, 405) == "PUT is not for /v1/search; use GET, POST"
    assert answer.headers["allow"] == "GET, POST"


def test_a_draining_server_answers_503(talker, index):
    pipeline = Pipeline(talker, Limits(), index=index)
    client = TestClient(create_app(pipeline))
    pipeline.admission.draining = True
    assert "shutting down" in refused(client.get("/v1/search?words=tone"), 503)


def test_searches_leave_nothing_in_the_queue_and_are_in_the_metrics(talker, index):
    pipeline = Pipeline(talker, Limits(), index=index)
    client = TestClient(create_app(pipeline))
    typical = pipeline.admission.typical_s
    for words in ("tone", "zzyx"):
        client.get("/v1/search", params={"words": words})
    assert (pipeline.admission.tickets, pipeline.admission.sound_ms) == (0, 0)
    assert pipeline.admission.typical_s == typical  # a search by words says nothing about how long recordings are
    lines = client.get("/metrics").text.splitlines()
    assert "unheard_search_seconds_count 1.0" in lines
    assert 'unheard_requests_total{code="200",route="/v1/search"} 1.0' in lines


def test_the_description_and_the_page_tell_of_the_search(client):
    operations = client.get("/openapi.json").json()["paths"]["/v1/search"]
    assert {parameter["name"] for parameter in operations["get"]["parameters"]} == {"words", "and", "not", "top"}
    assert "404" in operations["post"]["responses"]
    page = client.get("/docs").text
    assert "Sounds of the index that words describe" in page


def test_the_server_refuses_an_index_of_another_model_at_the_start(index_folder, capsys):
    assert main(["demo/model-from-scratch", "--index", str(index_folder), "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds embeddings of another model" in line


def test_the_server_refuses_what_is_no_index_at_the_start(talking_bundle, tmp_path, capsys):
    assert main([str(talking_bundle), "--index", str(tmp_path / "none"), "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such index; make it with: python -m serving.index" in line


def test_a_reload_takes_the_new_index_and_refuses_a_bundle_of_another_model(talking_bundle, index_folder, tmp_path):
    served, own, socket = tmp_path / "bundle", tmp_path / "own.index", tmp_path / "admin"
    shutil.copytree(talking_bundle, served)
    shutil.copytree(index_folder, own)
    write_recording(tmp_path / "more" / "only.wav", ("tone",), 9)
    larger = index_sounds(talking_bundle, tmp_path / "more", tmp_path)
    with running(served, tmp_path / "log", "--index", str(own), "--admin-socket", str(socket)) as server:

        def rows() -> int:
            return httpx.get(f"{server.address}/v1/search?words=tone", timeout=60).json()["rows"]

        def reload(**fields: str) -> httpx.Response:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=60) as admin:
                return admin.post("http://admin/v1/reload", json=fields)

        before = rows()
        other = reload(bundle=str(Path("demo/model-from-scratch").resolve()))
        assert other.status_code == 422
        assert "holds embeddings of another model" in other.json()["error"]
        assert rows() == before
        shutil.rmtree(own)
        shutil.copytree(larger, own)
        assert reload(bundle=str(served)).status_code == 200
        assert rows() == len(SearchIndex.open(larger)) != before
        shutil.rmtree(own)
        server.process.send_signal(signal.SIGHUP)
        ends = time.monotonic() + 60
        while not any("no such index" in line["event"] for line in server.log()):
            assert time.monotonic() < ends
            time.sleep(0.05)
        assert rows() == len(SearchIndex.open(larger))  # the files are gone, and the server has them open
