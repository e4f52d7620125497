"""Pictures into sentences: learned by heart, composed, read from folders, and what is refused."""

import json

import numpy as np
import pytest
from command_line import cli  # noqa: F401 - a fixture
from PIL import Image
from plain_loop import learn

from unrolled.checkpoint.load import load
from unrolled.data import captions
from unrolled.data.captions import neighbours, read_captioned
from unrolled.data.splits import SPLITS
from unrolled.errors import InputError
from unrolled.inspect.attention import attention
from unrolled.settings import PictureSettings, Settings
from unrolled.tasks.caption import Caption, PictureEncoder

PNG = b"\x89PNG"
COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


@pytest.fixture
def flickr(tmp_path):
    """A folder as Flickr8k comes: pictures apart, five words of captions in a file of their own."""
    (tmp_path / "f" / "Images").mkdir(parents=True)
    lines = []
    for n in range(12):
        name = [*COLOURS][n % 3]
        Image.new("RGB", (10, 10), COLOURS[name]).save(tmp_path / "f" / "Images" / f"{n}.jpg")
        lines += [f"{n}.jpg#{k}\t{text}\n" for k, text in enumerate([f"a {name} square", name])]
    (tmp_path / "f" / "Flickr8k.token.txt").write_text("".join(lines), "utf-8")
    return tmp_path / "f"


def prepare(*sources, **flags):
    settings = Settings.from_flags("caption", {"source": sources, "threads": 1, **flags})
    return Caption.prepare(settings.with_defaults(Caption.defaults_for(settings)))


@pytest.mark.parametrize(
    "flags",
    [{}, {"attention": "additive"}, {"model": "mlp"}, {"attention": "top-k", "cell": "gru"}],
    ids=str,
)
def test_learns_a_few_pictures_by_heart(flickr, flags):
    task = prepare(str(flickr), split="1,0,0", batch_size=12, hidden=32, lr=0.005, **flags)
    assert len(task.rows("training").pairs) == 24
    model = learn(task, 60)
    task.splits["test"] = task.splits["training"]
    assert task.validate(model, "test")["exact"] == 1
    (found,) = task.predict(model, [str(flickr / "Images" / "1.jpg")])
    assert found["text"] in ("green", "a green square")


def test_a_folder_is_read(flickr):
    found = read_captioned([str(flickr)], PictureSettings())
    assert found.pixels.shape == (12, 3, 10, 10)
    assert found.captions[2] == ("a blue square", "blue")
    assert found.where[2].endswith("2.jpg")
    (flickr / "Flickr8k.token.txt").unlink()
    lines = ["image,caption", "0.jpg,red, or so", '1.jpg,"green, or so"']
    (flickr / "captions.txt").write_text("\n".join(lines), "utf-8")
    found = read_captioned([str(flickr)], PictureSettings(size=4))
    assert found.captions == [("red, or so",), ("green, or so",)]
    assert found.pixels.shape == (2, 3, 4, 4)


def test_what_is_missing_may_be_skipped(flickr, caplog):
    with (flickr / "Flickr8k.token.txt").open("a", encoding="utf-8") as file:
        file.write("gone.jpg#0\tnothing\n")
    with pytest.raises(InputError, match=r"token.txt:25 is about gone.jpg, which is not in"):
        read_captioned([str(flickr)], PictureSettings())
    (flickr / "Images" / "3.jpg").write_bytes(b"no picture")
    (flickr / "Flickr8k.token.txt").write_text("3.jpg#0\tred\n", "utf-8")
    with pytest.raises(InputError, match=r"3.jpg is not a picture"):
        read_captioned([str(flickr)], PictureSettings())
    text = "".join(f"{n}.jpg#0\ta\n" for n in (0, 3, 99))
    (flickr / "Flickr8k.token.txt").write_text(text, "utf-8")
    found = read_captioned([str(flickr)], PictureSettings(unreadable="skip"))
    assert len(found) == 1
    assert "3.jpg" in caplog.text
    assert "99.jpg" in caplog.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0.jpg#0 a red square", "a line is a picture, #, a number, a tab and a caption"),
        ("0.jpg#0\t ", r"token.txt:1 is"),
        ("\n\n", "about no picture"),
    ],
)
def test_a_bad_line(flickr, line, words):
    (flickr / "Flickr8k.token.txt").write_text(line, "utf-8")
    with pytest.raises(InputError, match=words):
        read_captioned([str(flickr)], PictureSettings())


def test_no_captions(flickr, tmp_path):
    (flickr / "Flickr8k.token.txt").unlink()
    with pytest.raises(InputError, match="holds no captions; it needs a Flickr8k"):
        read_captioned([str(flickr)], PictureSettings())
    for sources in ([], [str(flickr), "digits"]):
        with pytest.raises(InputError, match="captions are read from folders"):
            read_captioned(sources, PictureSettings())


def test_captions_of_two_folders(flickr):
    (flickr / "more").mkdir()
    (flickr / "more" / "Flickr8k.token.txt").write_text("0.jpg#0\tred")
    with pytest.raises(InputError, match="holds captions twice"):
        prepare(str(flickr))


def test_no_folder():
    with pytest.raises(InputError, match="no file, directory or data set is named 'nowhere'"):
        prepare("nowhere")


def test_pictures_of_unlike_size(flickr, tmp_path):
    Image.new("RGB", (9, 10)).save(flickr / "Images" / "4.jpg")
    with pytest.raises(InputError, match="--size"):
        prepare(str(flickr))
    assert prepare(str(flickr), size=10, split="0.5,0.25,0.25").shape == (3, 10, 10)


def test_canvases_say_what_they_show(monkeypatch):
    monkeypatch.setattr(captions, "CANVASES", {"training": 60, "validation": 20, "test": 20})
    found = neighbours("neighbours")
    assert found["training"].pixels.shape == (60, 1, 20, 20)
    same = neighbours("neighbours")
    assert np.array_equal(found["test"].pixels, same["test"].pixels)
    assert not np.array_equal(found["test"].pixels, neighbours("neighbours", 1)["test"].pixels)
    for picture, (text,) in zip(found["test"].pixels, found["test"].captions, strict=True):
        halves = picture[0].astype(int)
        if "left of" in text:
            halves = halves.T
        _, name, *_, other = text.split()
        assert {name, other} <= set(captions.NAMES)
        assert ("an eight" in text) == ("eight" in text)
        assert "a eight" not in text
        # nothing lies across the middle
        assert halves[:10].any()
        assert halves[10:].any()


def test_digits_by_name():
    task = prepare("digits")
    rows = task.rows("training")
    assert {r[0] for r in rows.references} == set(captions.NAMES)
    assert task.settings.data.symbols == "character"
    found = task.baselines("validation")
    assert found["nearest"]["exact"] > 0.9
    assert found["most_common"]["exact"] < 0.2
    assert task.data_digest != prepare("digits", seed=1).data_digest
    restored = Caption.restore(task.settings, task.artefacts())
    assert restored.guesses(rows.items[:20]) == task.guesses(rows.items[:20])
    with pytest.raises(InputError, match="it is of no captioner"):
        Caption.restore(task.settings, type(task.artefacts())({}))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 48), (1, 5, 3), (1, 28, 28)])
def test_maps_have_few_places(shape):
    import torch

    encoder = PictureEncoder(shape, 6)
    read = encoder(torch.rand(2, *shape))
    assert read.summary.shape == (2, 6)
    places = encoder.sides[0] * encoder.sides[1]
    assert read.y.shape == (places, 2, encoder.width)
    assert max(encoder.sides) <= 8


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"model": "mlp", "attention": "additive"}, "an mlp gives one vector"),
        ({"model": "bag"}, "--model bag: a captioner reads by cnn or mlp"),
        ({"attention": "dot"}, "--attention dot: "),
    ],
)
def test_bad_settings(flags, words):
    with pytest.raises(InputError, match=words):
        prepare("digits", **flags).build()


def test_too_few_pictures(flickr):
    (flickr / "Flickr8k.token.txt").write_text("0.jpg#0\tred\n1.jpg#0\tgreen\n", "utf-8")
    with pytest.raises(InputError, match="too few to split"):
        prepare(str(flickr))


def test_on_the_command_line(cli, flickr, tmp_path):  # noqa: F811
    out = str(tmp_path / "model")
    flags = (
        "--hidden 8 --embedding 4 --steps 4 --evaluate-every 2 --batch-size 4 --attention general"
    )
    run = cli(
        *("train", "caption", str(flickr), *flags.split(), "--split", "0.5,0.25,0.25"),
        *("--out", out, "--json"),
    )
    assert run.code == 0
    end = json.loads(run.out.splitlines()[-1])["metrics"]
    assert end["note"].startswith("BLEU: nrefs:2")
    assert set(end["baselines"]) == {"most_common", "nearest"}
    assert (tmp_path / "model" / "attention.png").read_bytes().startswith(PNG)
    pictures = str(flickr / "Images")
    found = cli("predict", out, f"{pictures}/0.jpg", f"{pictures}/1.jpg", "--json", "--beam", "2")
    named = [one["picture"] for one in json.loads(found.out)["predictions"]]
    assert named == [f"{pictures}/0.jpg", f"{pictures}/1.jpg"]
    judged = json.loads(cli("evaluate", out, str(flickr), "--json").out)
    assert judged["pictures"] == 12
    seen = json.loads(cli("inspect", out, pictures, "attention", "--json", "--pictures", "1").out)
    assert len(seen["texts"]) == 1
    assert (tmp_path / "model" / "attention" / "1.png").read_bytes().startswith(PNG)
    with pytest.raises(InputError, match="neither a picture nor a folder"):
        attention(load(out), "nowhere")
    Image.new("RGB", (9, 10)).save(flickr / "other.png")
    refused = cli("predict", out, str(flickr / "other.png"))
    assert refused.code == 2
    assert "9 x 10 colour, but the model was trained on 10 x 10 colour" in refused.sentence


def lists(flickr, **names):
    for part, some in names.items():
        text = "".join(f"{n}.jpg\n" for n in some)
        (flickr / f"Flickr_8k.{part}Images.txt").write_text(text, "utf-8")


def test_the_splits_of_flickr8k(flickr, cli):  # noqa: F811
    lists(flickr, train=[0, 1, 2, 5, 7], dev=[9, 3], test=[8, 4, 10])
    task = prepare(str(flickr))
    chosen = {split: {one[0].split()[1] for one in task.rows(split).references} for split in SPLITS}
    assert [len(task.rows(split)) for split in SPLITS] == [5, 2, 3]
    assert chosen == {
        "training": {"red", "green", "blue"},
        "validation": {"red"},
        "test": {"blue", "green"},
    }
    own = prepare(str(flickr), test=(str(flickr),))
    assert [len(own.rows(split)) for split in SPLITS] == [5, 2, 12]
    out = flickr.parent / "m"
    cli("train", "caption", flickr, "--steps", "2", "--hidden", "8", "--quiet", "--out", out)
    assert "bleu" in load(out).metrics["test"]


def test_lists_that_are_wrong(flickr):
    lists(flickr, train=[0, 1, 2], test=[5])
    with pytest.raises(InputError, match=r"has no Flickr_8k.devImages.txt"):
        prepare(str(flickr))
    lists(flickr, dev=[4, 1])
    with pytest.raises(InputError, match=r"dev\w+.txt:2 names 1.jpg, which .*train\w+.txt:2 names"):
        prepare(str(flickr))
    lists(flickr, dev=[4, 99])
    with pytest.raises(
        InputError, match=r"dev\w+.txt:2 names 99.jpg, of which there is no picture"
    ):
        prepare(str(flickr))
    assert len(prepare(str(flickr), unreadable="skip").rows("validation")) == 1
    lists(flickr, dev=[])
    with pytest.raises(InputError, match=r"Flickr_8k.devImages.txt names no picture that was read"):
        prepare(str(flickr))


def test_pictures_that_are_learned_from_as_well_are_told(flickr, caplog):
    prepare(str(flickr), test=(str(flickr),))
    assert "12 test pictures are learned from as well" in caplog.text
