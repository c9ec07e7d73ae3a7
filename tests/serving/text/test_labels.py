"""Labels: how a text with commas becomes a list of them, which are the same, and which the text model can read."""

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from demo.bundle_choice import FROM_SCRATCH
from demo.drawing.draw_ranking import ranking_notes
from demo.embedded_recording import embed_recording
from demo.labels.ranked_labels import rank_labels
from demo.labels.typed_labels import read_labels, write_labels
from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.embedder import Embedder
from serving.errors import LabelError
from serving.zeroshot.label_text import join_labels, normalise_label, split_labels
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot
from tests.servers import client_of, refused
from tests.sounds import encoded, harmonics

BELLS = "églises, cloches"  # a name with a comma and an accent
NFC, NFD = (unicodedata.normalize(form, "café terrace") for form in ("NFC", "NFD"))
RENAMED = {"dog": "Dog, barking", "rain": unicodedata.normalize("NFD", BELLS), "helicopter": "вертолёт"}
SOUND = encoded(harmonics(16_000))


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Embedder:
    """The bundle that comes with the project, with some of its classes under the names of RENAMED."""
    folder = Path(shutil.copytree(FROM_SCRATCH, tmp_path_factory.mktemp("names") / "bundle"))
    zeroshot = read_zeroshot(folder / "zeroshot.npz")
    names = [RENAMED.get(name, name) for name in zeroshot.class_names]
    assert set(RENAMED.values()) <= set(names)
    write_zeroshot(replace(zeroshot, class_names=names), folder / "zeroshot.npz")
    write_manifest(folder, replace(open_bundle(FROM_SCRATCH).manifest, files={}))
    return Embedder.load(folder, "onnxruntime", threads=1)


@pytest.fixture(scope="module")
def client(named) -> TestClient:
    return client_of(named)


def ask(client: TestClient, *labels: str, status: int = 200) -> dict:
    answer = client.post("/v1/classify", params={"labels": labels}, content=SOUND)
    assert answer.status_code == status, answer.text
    return answer.json()


def seen_by_label(told: dict) -> dict[str, bool]:
    return {row["label"]: row["seen"] for row in told["ranking"]}


@pytest.mark.parametrize(
    ("text", "known", "labels"),
    [
        ("dog,rain", (), ["dog", "rain"]),
        (" dog , ,rain, ", (), ["dog", "rain"]),
        (" , ", (), []),
        ('"Dog, barking",rain', (), ["Dog, barking", "rain"]),
        ('rain , "a ""woof"", loud" ', (), ["rain", 'a "woof", loud']),
        ('12" vinyl, rain', (), ['12" vinyl', "rain"]),
        ("Dog, barking,rain", ["Dog, barking"], ["Dog, barking", "rain"]),
        ("rain,DOG,barking", ["Dog, barking"], ["rain", "Dog, barking"]),
        ("dog, barking, loud, rain", ["dog, barking", "Dog, barking, loud", "barking"], ["Dog, barking, loud", "rain"]),
        ('"dog", barking', ["dog, barking"], ["dog", "barking"]),
        ("dog, barks", ["dog, barking"], ["dog", "barks"]),
    ],
)
def test_commas_separate_labels_outside_of_quotes_and_of_known_names(text, known, labels):
    assert split_labels(text, known) == labels


def test_joined_labels_are_split_into_the_same():
    labels = ["dog", "Dog, barking", '"quoted"', 'a "b", c', '5" nail']
    assert split_labels(join_labels(labels)) == labels
    assert read_labels(write_labels(labels)) == labels
    assert read_labels(write_labels(["Dog, barking; loud"])) == ["Dog, barking; loud"]


@pytest.mark.parametrize("text", ['"dog, rain', 'cow,"dog" barks,rain', 'a, "b "" c'])
def test_a_quote_that_is_not_closed_is_refused(text, client):
    with pytest.raises(LabelError, match=r'labels: got ".*wanted the label between two double quotes'):
        split_labels(text)
    assert "between two double quotes" in ask(client, text, status=422)["error"]


def test_a_class_with_a_comma_in_its_name_can_be_asked_for(client):
    for query in ("Dog, barking,sea waves", "sea_waves,dog,barking", '"Dog, barking","sea waves"'):
        seen = seen_by_label(ask(client, query))
        assert len(seen) == 2
        assert all(seen.values())


def test_a_repeated_parameter_holds_one_label_each(client):
    told = ask(client, "Dog, barking", "a creaking door, slow", '"wind, soft"')
    assert seen_by_label(told) == {"Dog, barking": True, "a creaking door, slow": False, "wind, soft": False}


def test_the_demos_box_takes_known_names_and_quotes(named):
    known = named.zeroshot.class_names
    assert read_labels('dog, barking; rain,"wind, soft"', known) == ["Dog, barking", "rain", "wind, soft"]
    assert read_labels('wind, soft\n"rain, hard"\n', known) == ["wind, soft", "rain, hard"]
    assert read_labels(write_labels(known), known) == [name.replace("_", " ") for name in known]


def test_accents_as_one_character_or_two_are_one_label(named):
    assert NFC != NFD
    assert normalise_label(NFC) == normalise_label(NFD)
    assert normalise_label("STRASSE") == normalise_label("straße")
    chosen = named.choose([BELLS])
    assert chosen.class_names == [BELLS]  # as typed
    assert chosen.seen.tolist() == [True]
    with pytest.raises(LabelError, match="more than once"):
        named.choose([NFC, NFD])
    np.testing.assert_array_equal(named.choose([NFC]).class_vectors, named.choose([NFD]).class_vectors)


def test_names_come_back_as_typed_and_else_as_the_bundle_has_them(client):
    assert seen_by_label(ask(client, f'"{BELLS}"')) == {BELLS: True}
    told = client.post("/v1/classify", content=SOUND).json()
    assert set(RENAMED.values()) <= set(seen_by_label(told))


EMOJI = ["🚁", "👩\u200d🚒", "♪", "..."]
CYRILLIC_GREEK_ARABIC = ["собака", "дождь идёт", "σκύλος", "كلب"]
ASIAN = ["直升机", "下雨", "ヘリコプター", "헬리콥터", "कुत्ता", "หมา"]
NONSENSE = ["asdfgh", "xqzvkj"]
READABLE = [
    "helicopter",
    "a creaking door",
    "café",
    "R2D2",
    "747 jet",
    "leafblower",
    "woodchop",
    "vuvuzela",
    "rock & roll",
    "Hund",
]


@pytest.mark.parametrize("label", [*EMOJI, *CYRILLIC_GREEK_ARABIC, *ASIAN, *NONSENSE])
def test_a_label_that_the_text_model_cannot_read_is_refused(named, label):
    with pytest.raises(LabelError, match="the text model knows none of its words; it knows English"):
        named.choose(["sea waves", label])


@pytest.mark.parametrize("label", READABLE)
def test_english_words_are_read(named, label):
    assert named.labels.unknown_words([label]) == {}
    assert np.isfinite(named.choose([label]).class_vectors).all()


def test_over_http_and_in_the_demo_an_unreadable_label_is_refused_too(client, named, sound_file):
    answer = client.post("/v1/classify", params={"labels": "rain,🚁"}, content=SOUND)
    assert "label '🚁': the text model knows none of its words" in refused(answer, 422)
    heard = embed_recording(named, sound_file)
    with pytest.raises(LabelError, match="'🚁'"):
        rank_labels(named, heard.rows, read_labels("rain, 🚁"))


def test_a_class_of_the_bundle_may_have_any_name(client):
    assert seen_by_label(ask(client, "вертолёт,sea waves")) == {"вертолёт": True, "sea waves": True}


def test_words_that_are_not_known_are_told(client, named, sound_file):
    labels = ["sea waves", "rain дождь", "dog 🚁 asdfgh"]
    unknown = {"rain дождь": ["дождь"], "dog 🚁 asdfgh": ["🚁", "asdfgh"]}
    assert ask(client, *labels)["unknown_words"] == unknown
    assert ask(client, "sea waves")["unknown_words"] == {}
    assert named.classify(harmonics(16_000), 16_000, labels).unknown_words == unknown
    heard = embed_recording(named, sound_file)
    notes = ranking_notes(heard, rank_labels(named, heard.rows, labels), 0.0)
    assert [note for note in notes if "дождь" in note]


@pytest.mark.parametrize("label", ["\x00rain", "rain\x1b[2J", "dog\nrain", "dog\u2028rain", "\u202erain"])
def test_control_characters_in_a_label_are_refused_in_every_way(client, named, label):
    assert "printable" in str(ask(client, label, "dog x", status=422))
    for refuse in (
        lambda: named.choose([label]),
        lambda: named.choose(["bird"], {"bird": label}),
        lambda: named.choose([label], {label: "rain"}),
        lambda: named.teach({}, {"bird": label}),
        lambda: named.teach({}, {label: "rain"}),
    ):
        with pytest.raises(LabelError, match="printable"):
            refuse()


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.wav"
    path.write_bytes(SOUND)
    return path
