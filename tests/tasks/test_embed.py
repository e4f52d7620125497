"""Points near those of their label: batches, recall, neighbours, maps."""

import json

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from plain_loop import learn

import unrolled as ur
from unrolled.data.splits import SPLITS
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import Artefacts
from unrolled.tasks.classify import Rows
from unrolled.tasks.embed import Embed, _distinct
from unrolled.tasks.retrieval import in_plane, map_picture, nearest, raw_features, recall


def words(path, count=200, seed=0):
    """Words whose label is the one of a, b and c that comes first; raw counts do not tell."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        letters = random.choice(list("defg"), 8)
        at = np.sort(random.choice(8, 3, replace=False))
        letters[at] = random.permutation(list("abc"))
        rows.append(f"{''.join(letters)}\t{letters[at[0]]}\n")
    path.write_text("text\tlabel\n" + "".join(rows))
    return str(path)


def prepare(source, **flags):
    settings = Settings.from_flags("embed", {"source": (source,), "threads": 1, **flags})
    return Embed.prepare(settings.with_defaults(Embed.defaults_for(settings)))


@pytest.fixture
def task(tmp_path):
    return prepare(words(tmp_path / "w.tsv"), hidden=16, dimension=8, batch_size=24, lr=0.01)


def test_recall_by_hand():
    points = np.array([[0.0], [1], [1.5], [7], [8.9], [20]])
    labels = np.array([0, 1, 0, 0, 1, 2])  # nobody has the label of the last
    # nearest others: 0 -> 1 (no), 1 -> 1.5 (no), 1.5 -> 1 (no), 7 -> 8.9 (no), 8.9 -> 7 (no)
    assert recall(points, labels) == {"recall_at_1": 0, "recall_at_5": 1}
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert recall(points, labels) == {"recall_at_1": 1, "recall_at_5": 1}
    assert np.isnan(recall(points, np.arange(6))["recall_at_1"])


def test_recall_with_many_at_one_place():
    labels = np.repeat([0, 1], 20)
    assert recall(np.zeros((40, 2)), labels)["recall_at_5"] <= 1
    points = np.repeat([[0.0], [1.0]], 20, 0)
    assert recall(points, labels) == {"recall_at_1": 1, "recall_at_5": 1}


def test_nearest_is_nearest():
    random = np.random.default_rng(0)
    points, among = random.standard_normal((5, 3)), random.standard_normal((9, 3))
    d = np.linalg.norm(points[:, None] - among, axis=2)
    far, places = nearest(points, among, 4)
    np.testing.assert_array_equal(places, d.argsort(1)[:, :4])
    np.testing.assert_allclose(far, np.sort(d, 1)[:, :4])
    assert nearest(points, among, 20)[1].shape == (5, 9)


def test_raw_features():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
    np.testing.assert_array_equal(raw_features(pixels)[1], np.arange(12, 24))
    texts = raw_features(["anna", "hanna", "otto"])
    products = (texts @ texts.T).toarray()
    np.testing.assert_allclose(products.diagonal(), 1)
    assert products[0, 1] > products[0, 2]
    ramp = np.arange(5.0)[:, None]
    slow, fast = raw_features([ramp, ramp[::2]])
    np.testing.assert_allclose(slow, fast)
    assert np.linalg.norm(slow) == pytest.approx(1)


@pytest.mark.parametrize("how", ["pca", "tsne"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_maps_keep_groups_apart(how):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    points = random.standard_normal((40, 6)) + 30 * labels[:, None]
    flat = in_plane(points, how)
    assert flat.shape == (40, 2)
    assert recall(flat, labels)["recall_at_1"] == 1
    assert in_plane(points[:, :1], how).shape == (40, 2)
    assert in_plane(raw_features(["a", "b", "ab"] * 4), how).shape == (12, 2)
    assert map_picture(flat, flat, labels, ["x", "y"])[:4] == b"\x89PNG"


def test_batches_have_several_of_each_label(task):
    counts = [np.bincount(task.batch(step, slice(None)).labels, minlength=3) for step in range(5)]
    assert all(count.tolist() == [8, 8, 8] for count in counts)  # six groups of four, three labels
    whole, part = task.batch(2, slice(None)), task.batch(2, slice(4, 12))
    np.testing.assert_array_equal(part.labels, whole.labels[4:12])
    np.testing.assert_array_equal(task.batch(2, slice(None)).inputs[0], whole.inputs[0])
    assert (task.batch(3, slice(None)).labels != whole.labels).any() or (
        task.batch(3, slice(None)).inputs[0].shape != whole.inputs[0].shape
    )


def test_labels_come_as_often_as_they_occur(tmp_path):
    path = tmp_path / "w.tsv"
    rows = [f"a{n}\tmany\n" for n in range(90)] + [f"b{n}\tfew\n" for n in range(10)]
    path.write_text("text\tlabel\n" + "".join(rows))
    task = prepare(str(path), batch_size=40, by_frequency=True)
    labels = np.concatenate([task.batch(step, slice(None)).labels for step in range(20)])
    assert 0.82 < (labels == task.labels.index("many")).mean() < 0.98
    for group in labels.reshape(-1, 4):
        assert len(set(group)) == 1


def test_a_label_with_few_examples_comes_with_some_twice(tmp_path):
    path = tmp_path / "w.tsv"
    rows = [f"a{n}\tmany\n" for n in range(40)] + ["b\tfew\n", "bb\tfew\n", "c\tone\n"]
    path.write_text("text\tlabel\n" + "".join(rows))
    task = prepare(str(path), batch_size=8, seed=3, split="0.9,0.1,0")
    few = task.labels.index("few")
    labels = task.rows("training").labels
    if (labels == few).sum() < 2:
        pytest.skip("the split took one away")
    batch = task.batch(0, slice(None))
    assert (batch.labels == few).sum() == 4
    assert task.labels.index("one") not in batch.labels


@pytest.mark.parametrize(
    "flags",
    [
        {"objective": "triplet", "mining": "semi-hard"},
        {"objective": "triplet", "mining": "hard", "margin": 0.5},
        {"objective": "contrastive", "margin": 0.5},
        {"objective": "n-pairs"},
        {"objective": "group"},
    ],
    ids=lambda flags: flags["objective"],
)
def test_learns_what_raw_features_do_not_tell(tmp_path, flags):
    source = words(tmp_path / "w.tsv", 400)
    task = prepare(source, hidden=24, dimension=8, batch_size=24, lr=0.02, **flags)
    model = learn(task, 80)
    task.validate(model, "validation")
    found = task.validate(model, "test")
    beside = task.baselines("test")
    assert found["recall_at_1"] > 0.75 > beside["raw_features"]["recall_at_1"]
    assert found["accuracy"] > 0.75
    assert beside["majority"]["accuracy"] < 0.6


def test_points_have_length_one_or_any(task):
    model = task.build()
    inputs = task.batch(0, slice(None)).inputs
    points = model(*(torch.from_numpy(array) for array in inputs))
    assert points.shape == (24, 8)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(24))
    model.unit_length = False
    points = model(*(torch.from_numpy(array) for array in inputs))
    assert (points.norm(dim=1) - 1).abs().max() > 0.01


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"margin": 0.3}, 0.3),
        ({"objective": "contrastive", "margin": 0.5}, 0.125 * 192 / (192 + 84)),
        ({"objective": "n-pairs"}, np.log(1 + 16)),
        ({"objective": "group"}, 0),
    ],
)
def test_the_loss_starts_as_that_of_one_place(tmp_path, flags, expected):
    task = prepare(words(tmp_path / "w.tsv", 60), batch_size=24, **flags)  # 8 of each of 3 labels
    assert task.initial_loss == pytest.approx(expected)


def test_the_same_example_counts_once():
    rows = Rows(["b", "a", "b", "b"], None, np.array([0, 0, 0, 1]))
    assert _distinct(rows).tolist() == [0, 1, 3]
    pixels = np.zeros((3, 1, 2, 2), np.uint8)
    pixels[1] += 1
    assert _distinct(Rows(pixels, None, np.zeros(3, int))).tolist() == [0, 1]


def test_restored_with_its_gallery(tmp_path, task):
    model = learn(task, 20)
    task.validate(model, "validation")
    kept = task.artefacts()
    table = json.loads(json.dumps(kept.vocabulary))
    again = Embed.restore(task.settings, Artefacts(table, kept.baseline))
    rebuilt = again.build()
    rebuilt.load_state_dict(model.state_dict())
    rebuilt.eval()
    source = words(tmp_path / "other.tsv", 50, seed=1)
    assert again.evaluate(rebuilt, [source]) == task.evaluate(model, [source])
    text = task.rows("training").items[0]
    with torch.no_grad():
        (found,) = again.predict(rebuilt, [text])
    assert found["nearest"][0]["name"] == text
    assert found["nearest"][0]["distance"] < 1e-3
    assert len(found["nearest"]) == 5
    del table["kept"]
    with pytest.raises(InputError, match="is of no embedder"):
        Embed.restore(task.settings, Artefacts(table, kept.baseline))


def test_splits_hold_different_examples(task):
    parts = [set(task.rows(split).items) for split in SPLITS]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]


def test_digits_from_the_command_line(cli, tmp_path):  # noqa: F811
    out = str(tmp_path / "model")
    done = cli("train", "embed", "--steps", "1", "--batch-size", "16", "--out", out)
    assert done.code == 0, done.err
    assert (tmp_path / "model" / "map.png").read_bytes()[:4] == b"\x89PNG"
    done = cli("evaluate", out, "digits", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["baselines"]["raw_features"]["recall_at_1"] > 0.9
    assert found["examples"] == 1797
    picture = np.zeros((8, 8), np.uint8)
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "one.png")
    done = cli("predict", out, str(tmp_path / "one.png"), "--json")
    assert done.code == 0, done.err
    (told,) = json.loads(done.out)["predictions"]
    assert [set(near) for near in told["nearest"]] == [{"name", "label", "distance"}] * 5
    assert len(told["embedding"]) == 32
    trained = ur.load(out)
    assert trained.evaluate("digits") == found


def test_signals(tmp_path):
    random = np.random.default_rng(0)
    lines = ["@problemName waves", "@univariate true", "@classLabel true up down", "@data"]
    for n in range(60):
        ramp = np.linspace(-1, 1, 12) * (1 if n % 2 else -1) + 0.1 * random.standard_normal(12)
        lines.append(",".join(f"{v:.4f}" for v in ramp) + (":up" if n % 2 else ":down"))
    path = tmp_path / "waves.ts"
    path.write_text("\n".join(lines))
    task = prepare(str(path), hidden=8, dimension=4, batch_size=8, lr=0.02)
    model = learn(task, 30)
    assert task.validate(model, "validation")["recall_at_1"] == 1
    assert task.baselines("test")["raw_features"]["recall_at_1"] == 1
    assert task.names[0] != task.names[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("w.tsv --batch-size 30", ("--batch-size 30", "--per-label 4")),
        (
            "w.tsv --objective n-pairs --mining hard",
            ("--mining is for --objective triplet and contrastive", "n-pairs"),
        ),
        ("w.tsv --objective contrastive --mining semi-hard", ("--mining semi-hard", "contrastive")),
        ("w.tsv --split 0.9,0,0.1", ("validation part", "--split")),
        ("w.tsv --calibrate", ("--calibrate", "embed")),
        ("single.tsv", ("no label has two examples",)),
        ("w.tsv --margin 0", ("--margin",)),
        ("nowhere.tsv", ("nowhere.tsv",)),
    ],
)
def test_bad_input(cli, tmp_path, monkeypatch, arguments, sentence):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    words(tmp_path / "w.tsv", 40)
    rows = [f"text {n}\t{n}\n" for n in range(20)]
    (tmp_path / "single.tsv").write_text("text\tlabel\n" + "".join(rows))
    done = cli("train", "embed", *arguments.split(), "--out", "model")
    assert (done.code, done.out) == (2, "")
    for part in sentence:
        assert part in done.sentence
    assert not (tmp_path / "model" / "model.safetensors").exists()
