"""yamnet-audioset: published features that stay, an embedding in closed form, and the prototype map."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.zeroshot import unit_rows
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot
from tests.published_yamnet import published_yamnet, write_keras
from training.evaluation.scoring import zsl
from training.fit.whitening import HALF_SHRINKAGE, fit_embedding, fit_head, half_whitener, whitening
from training.networks import NetworkConfig, build_network
from training.prototype_map import DEFAULT_STRENGTH, ClassSide, choose_strength, prototype_map
from training.published.pretrained import load_pretrained
from training.run_folder import RunConfig, load_network
from training.zeroshot_maps import fit_zeroshot, text_vectors

NAMES = [f"class {i}" for i in range(12)]
SEEN = np.arange(12) < 9


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return write_keras(published_yamnet(seed=3, scaled=False), tmp_path_factory.mktemp("published") / "yamnet.h5")


def run_arguments(recordings: Path, published: Path, out: Path) -> list[str]:
    line = f"--dataset folder --data-dir {recordings} --network yamnet-audioset --init {published} --unseen clicks"
    return [*line.split(), "--validation-share", "0", "--out", str(out), "--cache-dir", str(out.parent / "cache")]


@pytest.fixture(scope="module")
def whitened_run(recordings, published, tmp_path_factory) -> Path:
    from training.run import main

    out = tmp_path_factory.mktemp("whitened") / "run"
    assert main(run_arguments(recordings, published, out)) == 0
    return out


def test_the_embedding_has_no_correlation_within_classes_without_shrinkage():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    mixing = rng.standard_normal((128, 128)) * np.geomspace(1, 30, 128)[:, None]
    features = rng.standard_normal((4, 128))[labels] * 5 + rng.standard_normal((400, 128)) @ mixing + 7
    mean, matrix = whitening(features, labels, shrinkage=0.0)
    rows = (features - mean) @ matrix
    within = np.concatenate([rows[labels == c] - rows[labels == c].mean(axis=0) for c in range(4)])
    np.testing.assert_allclose(within.T @ within / len(within), np.eye(128), atol=1e-6)  # FP64


def test_half_whitening_takes_the_square_root_of_what_varies_within_the_classes():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(5), 200)
    mixing = rng.standard_normal((16, 16)) * np.geomspace(1, 30, 16)[:, None]
    rows = rng.standard_normal((5, 16))[labels] * 20 + rng.standard_normal((1000, 16)) @ mixing
    within = np.cov(np.concatenate([rows[labels == c] - rows[labels == c].mean(axis=0) for c in range(5)]).T, ddof=0)
    shrunk = (1 - HALF_SHRINKAGE) * within + HALF_SHRINKAGE * np.trace(within) / 16 * np.eye(16)
    matrix = half_whitener(rows, labels).astype(np.float64)
    found = np.linalg.eigvalsh(matrix.T @ shrunk @ matrix)
    np.testing.assert_allclose(found, np.sqrt(np.linalg.eigvalsh(shrunk)), rtol=1e-5)  # FP32


def test_half_whitening_turns_only_where_every_class_has_one_clip():
    rows = np.random.default_rng(4).standard_normal((6, 8)).astype(np.float32)
    matrix = half_whitener(rows, np.arange(6))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-6)


def test_directions_in_which_clips_of_a_class_differ_count_less():
    """Classes differ in 8 of 24 numbers; in the others their clips differ from each other, in all classes alike."""
    rng = np.random.default_rng(5)
    centres, spread = np.zeros((10, 24), np.float32), np.repeat([0.3, 2.0], [8, 16])
    centres[:, :8] = rng.standard_normal((10, 8))
    labels = np.repeat(np.arange(10), 20)
    heard, others = ((centres[labels] + spread * rng.standard_normal((200, 24))).astype(np.float32) for _ in range(2))
    classes = ClassSide([str(i) for i in range(10)], np.ones(10, bool), unit_rows(centres))
    matrix = half_whitener(heard, labels)
    plain, whitened = (
        (prototype_map(classes, (heard @ by, labels), 1.0).scores(others @ by).argmax(axis=1) == labels).mean()
        for by in (np.eye(24, dtype=np.float32), matrix)
    )
    assert whitened > plain + 0.1


def test_features_that_few_clips_do_not_have_do_not_explode():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(4), 6)
    features = np.abs(rng.standard_normal((4, 400))[labels] + 0.5 * rng.standard_normal((24, 400)))
    features[:, 150:] = 0.0  # more than half, as of ten clips of a second
    mean, matrix = whitening(features, labels)
    longest = np.linalg.norm((features - mean) @ matrix, axis=1).max()
    other = np.abs(rng.standard_normal((1, 400)))  # a sound that has all of them
    assert np.linalg.norm((other - mean) @ matrix) < 10 * longest


def test_the_network_computes_the_closed_form_and_its_head_knows_the_classes():
    torch.manual_seed(0)
    network = build_network(NetworkConfig("yamnet-audioset", 3, 0.2)).eval()
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 60)
    features = (rng.standard_normal((3, 1024))[labels] + rng.standard_normal((180, 1024))).astype(np.float32)
    fit_embedding(network, features, labels)
    with torch.inference_mode():
        rows = network.embedding(torch.from_numpy(features)).numpy()
        mean, matrix = whitening(features.astype(np.float64), labels)
        np.testing.assert_allclose(
            rows, (features - mean) @ matrix, atol=1e-4 * np.abs(rows).max()
        )  # FP32 sums of 1024
        fit_head(network, rows, labels)
        assert (network.classify(torch.from_numpy(rows)).argmax(1).numpy() == labels).mean() > 0.95


def toy(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts [12, 30], and embeddings and labels of 20 clips a class: a linear function of the texts, and noise."""
    texts = unit_rows(np.asarray(rng.standard_normal((12, 30)), np.float32))
    labels = np.repeat(np.arange(12), 20)
    centres = texts @ rng.standard_normal((30, 16)) + 3
    return texts, (centres[labels] + 0.3 * rng.standard_normal((240, 16))).astype(np.float32), labels


def test_the_prototype_map_finds_unseen_classes_better_than_chance():
    texts, embeddings, labels = toy(np.random.default_rng(0))
    train = SEEN[labels]
    fitted = fit_zeroshot(ClassSide(NAMES, SEEN, texts), (embeddings[train], labels[train]), kind="prototypes")
    assert zsl(fitted.scores(embeddings), labels, SEEN) > 0.6  # chance: 1/3
    scores = fitted.scores(embeddings[train], NAMES[:9])
    assert (scores.argmax(axis=1) == labels[train]).mean() > 0.9
    assert fitted.offset != 0.0


def test_the_map_is_ridge_regression_from_texts_to_class_means():
    texts, embeddings, labels = toy(np.random.default_rng(1))
    train = SEEN[labels]
    fitted = prototype_map(ClassSide(NAMES, SEEN, texts), (embeddings[train], labels[train]), 2.0)
    means = np.stack([embeddings[labels == c].mean(axis=0) for c in range(9)]) - embeddings[train].mean(axis=0)
    wanted = np.linalg.solve(texts[:9].T @ texts[:9] + 2.0 * np.eye(30), texts[:9].T @ means)  # the primal form
    np.testing.assert_allclose(fitted.text_projection, wanted, atol=1e-4)


def test_the_choice_of_lambda_and_offset_hears_nothing_of_unseen_classes():
    texts, embeddings, labels = toy(np.random.default_rng(2))
    train = SEEN[labels]
    chosen = choose_strength(ClassSide(NAMES, SEEN, texts), (embeddings[train], labels[train]))
    other = texts.copy()
    other[9:] = other[9:][::-1] * -1
    assert choose_strength(ClassSide(NAMES, SEEN, other), (embeddings[train], labels[train])) == chosen


def test_few_classes_get_the_default_strength_and_no_offset():
    texts, embeddings, labels = toy(np.random.default_rng(3))
    few = labels < 3
    assert choose_strength(ClassSide(NAMES, SEEN, texts), (embeddings[few], labels[few])) == (DEFAULT_STRENGTH, 0.0)


def test_the_map_keeps_its_projection_and_its_offset_in_the_file(tmp_path):
    texts, embeddings, labels = toy(np.random.default_rng(4))
    train = SEEN[labels]
    fitted = prototype_map(ClassSide(NAMES, SEEN, texts), (embeddings[train], labels[train]), 1.0)
    fitted = replace(fitted, offset=0.25, text_mean=texts[0] * 0)
    write_zeroshot(fitted, tmp_path / "zeroshot.npz")
    read = read_zeroshot(tmp_path / "zeroshot.npz")
    np.testing.assert_array_equal(read.scores(embeddings), fitted.scores(embeddings))
    assert read.offset == 0.25
    # A typed label with the text of an unseen class scores as the class.
    typed = read.choose(["typed"], lambda labels: texts[[11]])
    np.testing.assert_allclose(typed.scores(embeddings)[:, 0], fitted.scores(embeddings)[:, 11], atol=1e-6)


def test_seen_classes_stand_at_the_means_of_their_clips():
    texts, embeddings, labels = toy(np.random.default_rng(6))
    train = SEEN[labels]
    fitted = prototype_map(ClassSide(NAMES, SEEN, texts), (embeddings[train], labels[train]), 1.0)
    means = np.stack([embeddings[labels == c].mean(axis=0) for c in range(9)]) - embeddings[train].mean(axis=0)
    np.testing.assert_allclose(fitted.targets[:9], unit_rows(means), atol=1e-5)
    np.testing.assert_allclose(fitted.targets[9:], unit_rows(texts[9:] @ fitted.text_projection), atol=1e-6)


def test_a_ranking_starts_from_the_offset_of_the_map():
    texts, embeddings, labels = toy(np.random.default_rng(5))
    fitted = prototype_map(ClassSide(NAMES, SEEN, texts), (embeddings, labels), 1.0)
    shifted = replace(fitted, offset=0.7)
    assert shifted.rank(embeddings[0]) == fitted.rank(embeddings[0], offset=0.7)
    assert shifted.rank(embeddings[0], offset=0.0) == fitted.rank(embeddings[0])


def test_name_and_description_are_averaged():
    table = {"clock tick": [1.0, 0.0]}

    def encode(texts):
        return np.array([table.get(text, [0.0, 1.0]) for text in texts], np.float32)

    rows = text_vectors(["clock_tick"], encode, "name+description")
    np.testing.assert_allclose(rows, [[0.5**0.5, 0.5**0.5]], atol=1e-6)


def test_the_command_keeps_the_published_weights(whitened_run, published):
    from training.published.pretrained import load_pretrained

    config = RunConfig.load(whitened_run)
    assert (config.objective, config.map, config.class_texts) == ("whitening", "prototypes", "name+description")
    assert config.text == "minilm"
    network, fresh = load_network(whitened_run, config), build_network(config.network)
    load_pretrained(fresh, published)
    log_mel = torch.randn(2, 1, 96, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network.features(log_mel), fresh.eval().features(log_mel))


def test_the_whitened_run_is_evaluated_and_exported(whitened_run, published, recordings, tmp_path, capsys):
    from export.onnx import main as export
    from training.evaluate import main as evaluate

    assert evaluate([str(whitened_run), "--init", str(published), "--cache-dir", str(tmp_path / "cache")]) == 0
    report = json.loads((whitened_run / "evaluation" / "report.json").read_text())
    assert report["run"]["zsl_chance"] == 1.0  # clicks alone is unseen
    assert report["run"]["zsl"] is None  # among one class every answer is right
    told = capsys.readouterr().out
    assert json.loads(told.splitlines()[-1])["zsl"] is None
    page = (whitened_run / "evaluation" / "report.md").read_text()
    assert "| among the unseen classes (ZSL) | not measurable (one class) |" in page
    assert "not measurable (one class)" in told
    for text in (page, told.rpartition("{")[0]):
        assert "chance" not in text
        assert "100.0 %" not in text.partition("all classes")[0]
    capsys.readouterr()
    assert export([str(whitened_run), "--out", str(tmp_path / "bundle"), "--no-text-model"]) == 0
    assert f"next: python -m demo {tmp_path / 'bundle'}" in capsys.readouterr().err
    embedder = Embedder.load(tmp_path / "bundle")
    recording = sorted((recordings / "tone").iterdir())[0]
    wave, rate_hz = soundfile.read(recording, dtype="float32")
    assert embedder.classify(wave, rate_hz, ["tone", "noise"])[0][0] == "tone"
    # The bundle's model is the start of another training, with the very weights that Google's file gave.
    again, first = (build_network(NetworkConfig("yamnet-audioset", 7, 0.2)).eval() for _ in range(2))
    report = load_pretrained(again, tmp_path / "bundle" / "embedder.onnx")
    load_pretrained(first, published)
    log_mel = torch.randn(2, 1, 96, 64)
    with torch.inference_mode():
        wanted, got = first.features(log_mel), again.features(log_mel)
    assert wanted.std() > 1e-3
    # Folding BatchNorm rounds each of 27 layers once more: 2e-5 was seen; a wrong layer changes the first digit.
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert report.line().startswith("135 tensors of a yamnet-audioset bundle loaded; 8 left fresh")
    assert not report.statistics


def test_the_model_of_another_network_is_no_start(bundle_folder, tmp_path):
    with pytest.raises(UsageError, match="not the FP32 or FP16 model of a bundle whose network is yamnet-audioset"):
        load_pretrained(build_network(NetworkConfig("yamnet", 7, 0.2)), bundle_folder / "embedder.onnx")
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(UsageError, match=r"model\.onnx: not a readable \.onnx file"):
        load_pretrained(build_network(NetworkConfig("yamnet", 7, 0.2)), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--network yamnet-audioset", "needs Google's weights"),
        ("--network yamnet-audioset --objective text --init {0}", "yamnet-audioset has no other objective"),
        ("--network yamnet --objective whitening --init {0}", "whitening needs yamnet-audioset"),
        ("--network yamnet-audioset --init {0} --vocabulary 5", "nothing is trained"),
        ("--network yamnet-audioset --init {0} --epochs 5", "--epochs: got 5, but with --objective whitening nothing"),
        ("--network yamnet-audioset --init {0} --class-texts names", "wanted one of description, name+description"),
        ("--network yamnet-audioset --init demo/model", "is a folder; give a file of weights: of a bundle,"),
    ],
)
def test_flags_that_do_not_go_together_get_one_line(flags, line, recordings, published, tmp_path, capsys):
    from training.run import main

    base = f"--dataset folder --data-dir {recordings} --out {tmp_path / 'run'} --cache-dir {tmp_path}"
    assert main([*base.split(), *flags.format(published).split()]) == 2
    assert line in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
