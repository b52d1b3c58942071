import json
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.data.annotations import Known, check_inside, load_dataset
from lannunet_landmarks.schema import DatasetConfig
from lannunet_landmarks.types import Sample
from PIL import Image as pillow

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import State

WINGS = Path(__file__).parents[5] / "shared" / "data" / "wings"


def sample(name, coordinates, **more):
    return {"id": name, "image": f"{name}.png", "coordinates": coordinates, **more}


def content():
    return {
        "name": "hands",
        "description": "two landmarks",
        "fold": 0,
        "training": [
            sample("a", [[1, 2], [3.25, 4], [5, 6]], age=7),
            sample("b", [[1, 2], None, "absent"]),
        ],
        "validation": [sample("c", [[9, 8], [7, 6], [5, 4]])],
        "testing": [sample("d", None, has_annotation=False)],
    }


@pytest.fixture
def save(tmp_path):
    """Writes a data set's JSON, and an image for each of its samples; returns its configuration."""

    def write(data, name="annotations.json", **config):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        for letter in "abcd":
            pillow.new("L", (40, 30)).save(target.parent / f"{letter}.png")
        return DatasetConfig(**{"src_targets": target, "root": tmp_path, **config})

    return write


def test_a_data_set_is_read(save, tmp_path):
    dataset = load_dataset(save(content()), 0)
    assert (dataset.name, dataset.description, dataset.fold) == ("hands", "two landmarks", 0)
    assert dataset.path == tmp_path / "annotations.json"
    assert dataset.dimensions == 2
    assert dataset.landmark_names == ("0", "1", "2")
    assert {split: [s.id for s in samples] for split, samples in dataset.samples.items()} == {
        "training": ["a", "b"],
        "validation": ["c"],
        "testing": ["d"],
    }
    a, b = dataset.samples["training"]
    assert a.image == tmp_path / "a.png"
    np.testing.assert_array_equal(a.coordinates, [[1, 2], [3.25, 4], [5, 6]])
    assert a.extra == {"age": 7}
    assert b.states.tolist() == [State.VISIBLE, State.UNLABELLED, State.ABSENT]
    np.testing.assert_array_equal(b.coordinates, [[1, 2], [np.nan, np.nan], [np.nan, np.nan]])
    (d,) = dataset.samples["testing"]
    assert d.states.tolist() == [State.UNLABELLED] * 3
    assert np.isnan(d.coordinates).all()


def test_landmarks_are_selected_by_index_and_flip_pairs_follow(save):
    data = content() | {"landmark_names": ["left", "right", "middle"]}
    dataset = load_dataset(save(data, landmarks=[2, 1, 0], flip_pairs=[[0, 1]]), 0)
    assert dataset.landmark_names == ("middle", "right", "left")
    assert dataset.flip_pairs == ((2, 1),)
    np.testing.assert_array_equal(dataset.samples["training"][0].coordinates, [[5, 6], [3.25, 4], [1, 2]])
    assert dataset.samples["training"][1].states.tolist() == [State.ABSENT, State.UNLABELLED, State.VISIBLE]
    only_first = load_dataset(save(data, landmarks=[0]), 0)
    assert only_first.landmark_names == ("left",)
    assert load_dataset(save(data, landmarks=[2], flip_pairs=[[0, 1]]), 0).flip_pairs == ()


def test_spacing_of_the_data_set_and_of_a_sample(save):
    data = content() | {"spacing": 0.5}
    data["training"][0]["spacing"] = [0.1, 0.2]
    a, b = load_dataset(save(data), 0).samples["training"]
    assert (a.spacing, b.spacing) == ((0.1, 0.2), (0.5, 0.5))
    assert load_dataset(save(content()), 0).samples["training"][0].spacing is None


def test_folds_of_a_folder(save, tmp_path):
    for fold in (0, 1):
        data = content() | {"name": f"fold {fold}"}
        del data["fold"]
        save(data, f"folds/fold{fold}.json")
    save(content() | {"name": "plain"}, "folds/all.json")
    config = DatasetConfig(src_targets=tmp_path / "folds", root=tmp_path / "folds")
    for fold, name in ((0, "fold 0"), (1, "fold 1"), (-1, "plain")):
        dataset = load_dataset(config, fold)
        assert (dataset.name, dataset.fold) == (name, fold)
    with pytest.raises(UserError, match=r"no fold2\.json .* all\.json, fold0\.json, fold1\.json"):
        load_dataset(config, 2)
    (tmp_path / "folds" / "all.json").unlink()
    with pytest.raises(UserError, match=r"not named foldK\.json; it holds fold0\.json, fold1\.json"):
        load_dataset(config, -1)


def test_three_dimensions(save):
    data = {
        "training": [sample("a", [[1, 2, 3]])],
        "validation": [],
        "testing": [],
    }
    dataset = load_dataset(save(data), 0)
    assert dataset.dimensions == 3
    assert dataset.name == "annotations"


def test_images_without_a_root_lie_beside_the_json(save, tmp_path):
    config = save(content(), "data/annotations.json").model_copy(update={"root": None})
    assert load_dataset(config, 0).samples["training"][0].image == tmp_path / "data" / "a.png"


def replaced(path, value):
    """The valid data set with one value changed, by its path."""
    data = content()
    *parents, last = path
    place = data
    for key in parents:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return data


BAD = {
    "malformed": ('{"training": [\n  {"id": }]}', r"annotations\.json, line 2, column 10: malformed JSON"),
    "not text": ("[1, 2]", r"annotations\.json: must be an object"),
    "no list": ({"train": [{"id": "a"}]}, r"has none of the lists training, .*; it has train\."),
    "split no list": (replaced(["testing"], {}), r'"testing" must be a list'),
    "nothing": ({"training": []}, r"no sample has a coordinate"),
    "twice": ('{"training": [], "training": []}', r'the key "training" is given twice'),
    "depth": ('{"training": ' + "[" * 60 + "]" * 60 + "}", r"is nested too deeply"),
    "great depth": ('{"training": ' + "[" * 10**5 + "]" * 10**5 + "}", r"is nested too deeply"),
    "fold": (replaced(["fold"], "one"), r'"fold" is "one"; it must be a whole number'),
    "id of another type": (replaced(["training", 1, "id"], True), r'"id" is true; it must be a text'),
    "annotated in quotes": (
        replaced(["testing", 0, "has_annotation"], "false"),
        r'"d" of testing: "has_annotation" is "false"; it must be true or false, without quotes',
    ),
    "annotated as a number": (replaced(["training", 0, "has_annotation"], 0), r'"has_annotation" is 0'),
    "a huge number": (
        json.dumps(content()).replace("3.25", "9" * 400),
        r"the number 9+… is larger than annotations may contain",
    ),
    "more digits than Python reads": (
        json.dumps(content()).replace("3.25", "-" + "9" * 9000),
        r"the number -9+… is larger than annotations may contain",
    ),
    "huge spacing": (replaced(["spacing"], 1e300), r'"spacing" is 1e\+300'),
    "spacing of booleans": (replaced(["spacing"], [True, True]), r'"spacing" is \[true, true\]'),
    "names of lists": (replaced(["landmark_names"], [["l"], "r", "m"]), r'"landmark_names" must be 3 diff'),
    "long path": (
        replaced(["training", 0, "image"], "a" * 5000),
        r'"a" of training: image .* does not exist',
    ),
    "path of no system": (replaced(["training", 0, "image"], "\0\ud800.png"), r"does not exist \(1 of 4"),
    "folder": (
        replaced(["training", 0, "image"], "."),
        r"is a folder without DICOM slices, should be a file",
    ),
    "group": (replaced(["group_by"], 3), r'"group_by" is 3; it must be a field'),
    "group of none": (
        replaced(["group_by"], r"^x(\d)"),
        r"group_by.* is not a field .* nor every image path",
    ),
    "no pattern": (
        replaced(["group_by"], "("),
        r'group_by.*"\(" is not a field of the samples, nor a regular',
    ),
    "duplicate": (replaced(["validation", 0, "id"], "a"), r'id "a" occurs twice'),
    "no id": (replaced(["training", 1, "id"], KeyError), r'sample 2 of training: "id" is missing'),
    "no image": (replaced(["training", 1, "image"], KeyError), r'sample "b" of training: "image" is missing'),
    "no object": (replaced(["training", 1], "b.png"), r"sample 2 of training: must be an object"),
    "no coordinates": (
        replaced(["training", 1, "coordinates"], None),
        r'"b" of training: has no coordinates',
    ),
    "without annotation": (
        replaced(["training", 1, "has_annotation"], False),
        r'"b" of training: says "has_annotation": false. Annotate it',
    ),
    "null unsaid": (
        replaced(["testing", 0, "has_annotation"], KeyError),
        r'"d" of testing: has no coordinates. Set "has_annotation": false',
    ),
    "count": (
        replaced(["validation", 0, "coordinates"], [[1, 2], [3, 4]]),
        r'"c" of validation: has 2 landmarks where the others have 3',
    ),
    "dimensions": (
        replaced(["validation", 0, "coordinates", 1], [1, 2, 3]),
        r'"c" of validation: landmark 1 is \[1, 2, 3\] where the others have 2 dimensions',
    ),
    "one dimension": (replaced(["training", 0, "coordinates", 0], [1]), r'"a" of training: \[1\] is neither'),
    "infinite": (
        replaced(["training", 0, "coordinates", 2, 1], float("inf")),
        r'"a" of training: landmark 2 is \[5, inf\], which is not finite',
    ),
    "outside of any image": (
        replaced(["training", 0, "coordinates", 2, 1], 1e300),
        r'"a" of training: landmark 2 is \[5, 1e\+300\], which is not finite, or outside of any image',
    ),
    "not a number": (
        replaced(["training", 0, "coordinates", 2, 1], float("nan")),
        r'"a".* landmark 2 .* finite',
    ),
    "a text": (
        replaced(["training", 0, "coordinates", 2, 1], "6"),
        r'"a".* landmark 2 is \[5, "6"\]; it must',
    ),
    "a word": (replaced(["training", 0, "coordinates", 2], "gone"), r'"a".* landmark 2 is "gone"; it must'),
    "a boolean": (replaced(["training", 0, "coordinates", 2, 1], True), r'"a".* landmark 2 is \[5, true\]'),
    "spacing": (
        replaced(["training", 0, "spacing"], [0.1, -1]),
        r'"a" of training: "spacing" is \[0\.1, -1\]',
    ),
    "spacing axes": (replaced(["spacing"], [1, 1, 1]), r'"spacing" is \[1, 1, 1\]'),
    "names": (replaced(["landmark_names"], ["l", "r"]), r'"landmark_names" must be 3 different names'),
    "same names": (replaced(["landmark_names"], ["l", "r", "r"]), r'"landmark_names" must be 3 different'),
    "strange file": (replaced(["testing", 0, "image"], "annotations.json"), r'suffix "\.json"'),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_wrong_is_said(save, fault):
    data, message = BAD[fault]
    with pytest.raises(UserError, match=message) as error:
        load_dataset(save(data), 0)
    assert "annotations.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_visible_to_train_on(save):
    data = content()
    data["training"] = [data["training"][1]]
    with pytest.raises(UserError, match=r'no sample of "training" has a coordinate of a selected landmark'):
        load_dataset(save(data, landmarks=[2]), 0)
    data["training"] = [sample("a", [None, None, None])]
    data["validation"] = []
    with pytest.raises(UserError, match="no sample has a coordinate"):
        load_dataset(save(data), 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"landmarks": [0, 3]}, r"dataset\.landmarks: 3 is none of the 3 landmarks \(0 to 2\)"),
        ({"flip_pairs": [[0, 3]]}, r"dataset\.flip_pairs: 3 is none of the 3 landmarks"),
        ({"flip_pairs": [[0, 1], [1, 2]]}, r"dataset\.flip_pairs: a landmark stands in two places"),
        ({"flip_pairs": [[0, 1]], "landmarks": [0, 2]}, r"dataset\.flip_pairs: of \[0, 1\] only one"),
    ],
)
def test_what_the_configuration_asks_for_must_exist(save, config, message):
    with pytest.raises(UserError, match=message):
        load_dataset(save(content(), **config), 0)


def test_missing_images_are_counted_and_the_first_is_named(save, tmp_path):
    config = save(content())
    (tmp_path / "b.png").unlink()
    (tmp_path / "d.png").unlink()
    with pytest.raises(
        UserError,
        match=r'sample "b" of training: image .*b\.png does not exist \(2 of 4 images are missing\)',
    ):
        load_dataset(config, 0)


def test_missing_annotations(tmp_path):
    config = DatasetConfig(src_targets=tmp_path / "gone.json", root=tmp_path)
    with pytest.raises(UserError, match=r"gone\.json: there is no such file or folder"):
        load_dataset(config, 0)
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(UserError, match=r"latin\.json: cannot be read as UTF-8"):
        load_dataset(DatasetConfig(src_targets=tmp_path / "latin.json", root=tmp_path), 0)


@pytest.mark.parametrize(
    ("point", "inside"),
    [([-0.5, 0], True), ([39.4, 29.4], True), ([39.5, 5], False), ([3, -0.6], False), ([20, 30], False)],
)
def test_coordinates_lie_inside_their_image(point, inside):
    """The image's pixels cover -0.5 to size - 0.5; a landmark without coordinates is in no image."""
    coordinates = np.array([[np.nan, np.nan], point])
    one = Sample("s7", Path("x.png"), coordinates, np.array([State.ABSENT, State.VISIBLE]))
    if inside:
        check_inside(one, (40, 30))
    else:
        with pytest.raises(
            UserError, match=r'sample "s7": landmark 1 at \(.*\) lies outside .* 40×30 pixels'
        ):
            check_inside(one, (40, 30))


def test_what_lies_outside_is_named_as_in_the_file(save):
    """This also holds if landmarks are selected."""
    one = load_dataset(save(content(), landmarks=[2, 1]), 0).samples["training"][0]
    with pytest.raises(UserError, match=r'annotations\.json, sample "a" of training: landmark 2 at \(5, 6\)'):
        check_inside(one, (4, 30))


def test_a_list_that_is_missing_is_empty(save):
    """An external test set needs no other list."""
    data = {"testing": content()["validation"], "val": content()["training"]}
    dataset = load_dataset(save(data), 0)
    assert {split: len(samples) for split, samples in dataset.samples.items()} == {
        "training": 0,
        "validation": 0,
        "testing": 1,
    }
    (note,) = dataset.notes
    assert 'annotations.json: the list "val" is not read' in note


def test_coordinates_that_are_not_read_are_said(save):
    data = content()
    data["validation"][0]["has_annotation"] = False
    dataset = load_dataset(save(data), 0)
    assert (dataset.samples["validation"][0].states == State.UNLABELLED).all()
    assert "the coordinates of 1 samples are not read" in dataset.notes[0]


def test_a_model_tells_what_nobody_annotated(save):
    data = {"testing": [sample("d", None, has_annotation=False)]}
    dataset = load_dataset(save(data), 0, known=Known(("left", "right"), 3))
    assert (dataset.landmark_names, dataset.dimensions) == (("left", "right"), 3)
    assert dataset.samples["testing"][0].coordinates.shape == (2, 3)


def test_paths_of_another_system(save, tmp_path):
    (tmp_path / "pictures").mkdir()
    data = content()
    for one in (*data["training"], *data["validation"], *data["testing"]):
        one["image"] = f"pictures\\{one['image']}"
    config = save(data)
    for letter in "abcd":
        (tmp_path / f"{letter}.png").rename(tmp_path / "pictures" / f"{letter}.png")
    assert load_dataset(config, 0).samples["training"][0].image == tmp_path / "pictures" / "a.png"


def test_names_do_nothing_on_a_terminal(save):
    data = content() | {"landmark_names": ["\x1b[31mred", "b", "c"], "name": "\x1b]0;mine\x07"}
    data["training"][0]["id"] = "\x1b[2J\ud800"
    dataset = load_dataset(save(data), 0)
    assert dataset.landmark_names[0] == r"\x1b[31mred"
    assert dataset.name == r"\x1b]0;mine\x07"
    assert dataset.samples["training"][0].id == r"\x1b[2J\ud800"


def test_the_patient_of_each_sample(save):
    data = content()
    for number, one in enumerate((*data["training"], *data["validation"], *data["testing"])):
        one |= {"PatientID": number // 2, "clinic": f"c{number}"}
    assert load_dataset(save(data), 0).groups == {"a": "0", "b": "0", "c": "1", "d": "1"}
    of_clinics = load_dataset(save(data | {"group_by": "clinic"}), 0).groups
    assert of_clinics == {"a": "c0", "b": "c1", "c": "c2", "d": "c3"}
    by_name = load_dataset(save(data | {"group_by": r"([ab]|[cd])\.png"}), 0).groups
    assert by_name == {"a": "a", "b": "b", "c": "c", "d": "d"}


@pytest.mark.skipif(not WINGS.exists(), reason="the wings are not here")
def test_wings():
    dataset = load_dataset(DatasetConfig(src_targets=WINGS / "dataset.json", root=WINGS), 0)
    assert {split: len(samples) for split, samples in dataset.samples.items()} == {
        "training": 41,
        "validation": 5,
        "testing": 12,
    }
    assert len(dataset.landmark_names) == 12
    assert all((s.states == State.VISIBLE).all() for samples in dataset.samples.values() for s in samples)
