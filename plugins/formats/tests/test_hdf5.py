"""DeepLabCut's .h5 and SLEAP's .slp: their content, and that no code in them is executed."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from lannunet_landmarks.data.exchange import format_of, read_source
from lannunet_landmarks.data.formats import Mark, format_called
from PIL import Image

from lannunet_core import UserError

h5py = pytest.importorskip("h5py")


def read(path, images=None):
    of = format_of(path, -1)
    return of.name, read_source(path, of, images)


def any_point(points):
    """Whether a point is annotated: a table without any is refused."""
    return any(one is not None for one in points)


def flat(annotations, animals):
    """The columns, and (images, columns) of values, of a table of DeepLabCut."""
    heads = ("Ada", "one") if animals else ("Ada",)
    columns = [(*heads, name, axis) for name in annotations.names for axis in "xy"]
    nowhere = Mark((np.nan, np.nan))
    cells = [
        [value for name in annotations.names for value in one.marks.get(name, nowhere).at]
        for one in annotations.images
    ]
    return columns, np.array(cells)


@pytest.mark.parametrize("animals", [False, True])
@pytest.mark.parametrize(("layout", "parts"), [("fixed", 3), ("fixed", 1), ("table", 1)])
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(points=st.lists(st.floats(-5, 70) | st.none(), min_size=9, max_size=9).filter(any_point))
def test_a_data_frame_of_pandas_is_the_table_beside_it(
    animals, layout, parts, points, tmp_path, pictures, annotated, write_frame
):
    """Both layouts, with one or three columns for the path; points are bit-identical."""
    clip = tmp_path / "project" / "labeled-data" / "clip"
    clip.mkdir(parents=True, exist_ok=True)
    for n in range(3):
        (clip / f"a{n}.png").write_bytes((pictures / f"a{n}.png").read_bytes())
    xs = np.array([np.nan if one is None else one for one in points]).reshape(3, 3)
    before = annotated(clip, np.stack([xs, xs + 1], axis=-1))
    format_called("deeplabcut", "").write(before, clip / "CollectedData_Ada.csv")
    of_csv = read(tmp_path / "project")[1]
    (clip / "CollectedData_Ada.csv").unlink()
    paths = [("labeled-data", "clip", f"a{n}.png") for n in range(3)]
    rows = paths if parts == 3 else [("/".join(path),) for path in paths]
    columns, cells = flat(before, animals)
    write_frame(clip / "CollectedData_Ada.h5", columns, rows, cells, layout)
    name, of_h5 = read(tmp_path / "project")
    assert name == "deeplabcut"
    assert of_h5.names == of_csv.names
    assert [(one.image, one.marks, one.extra) for one in of_h5.images] == [
        (one.image, one.marks, one.extra) for one in of_csv.images
    ]


class Bomb:
    def __reduce__(self):
        return (print, ("boom",))


@pytest.mark.parametrize("columns", [Bomb(), [(1, [("Ada", "tip", Bomb())])]])
def test_a_pickle_that_would_run_something_is_refused(columns, tmp_path, write_frame, capsys):
    path = tmp_path / "CollectedData_Ada.h5"
    write_frame(path, [("Ada", "tip", "x"), ("Ada", "tip", "y")], [("a0.png",)], np.ones((1, 2)), "table")
    with h5py.File(path, "a") as file:
        file["df_with_missing"].attrs["non_index_axes"] = np.bytes_(pickle.dumps(columns, protocol=0))
    with pytest.raises(UserError, match=r"Ada\.h5: its data frame .* needs \w+\.print\). Give the \.csv"):
        read(path)
    assert "boom" not in capsys.readouterr().out


def of_objects(file):
    file["df_with_missing/axis0_level0"].attrs["kind"] = np.bytes_("object")


def without_a_frame(file):
    del file["df_with_missing"].attrs["pandas_type"]


@pytest.mark.parametrize(("change", "said"), [
    (of_objects, r"Ada\.h5: its data frame cannot be read \(.* contains pickled objects\). Give the \.csv"),
    (without_a_frame, r"Ada\.h5: has 0 data frames of pandas, should have one. Give the \.csv"),
])  # fmt: skip
def test_another_data_frame_is_refused(change, said, tmp_path, write_frame):
    path = tmp_path / "CollectedData_Ada.h5"
    write_frame(path, [("Ada", "tip", "x"), ("Ada", "tip", "y")], [("a0.png",)], np.ones((1, 2)))
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(UserError, match=said):
        read(path)


TIP, EYE = (10.5, 20.25, True), (30.0, 5.0, True)


def encoded(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_frames_that_are_image_files(tmp_path, pictures, write_slp):
    """Invisible points are unlabelled; predictions are left out; old files count from the corner."""
    backend = {"filename": "D:\\clips\\a0.png", "filenames": [f"D:\\clips\\a{n}.png" for n in range(3)]}
    hidden = (1.0, 2.0, False)
    frames = [(0, 0, 0, [[TIP, EYE]]), (0, 1, 0, [[TIP, hidden]]), (0, 2, 1, [[TIP, EYE]])]
    for version, half in ((1.3, 0.0), (1.0, 0.5)):
        path = write_slp(tmp_path / "labels.slp", ["tip", "eye"], [backend], frames, version)
        name, said = read(path, pictures)
        assert (name, said.names) == ("sleap", ("tip", "eye"))
        assert [one.image.name for one in said.images] == ["a0.png", "a1.png"]
        tip = Mark((10.5 - half, 20.25 - half))
        assert said.images[0].marks == {"tip": tip, "eye": Mark((30.0 - half, 5.0 - half))}
        assert said.images[1].marks == {"tip": tip}
        assert "1 frames with only predictions" in said.notes[0]


@pytest.mark.parametrize(("version", "order"), [(1.3, slice(None, None, -1)), (1.4, slice(None))])
def test_frames_of_a_package_become_files(version, order, tmp_path, write_slp):
    """Frames of two videos with the same name, in their colours; videos are identified by number."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (2, 20, 30, 3), np.uint8)
    backends = [{"filename": ".", "dataset": f"video{n}/video"} for n in (3, 15)]
    packed = {3: {7: encoded(pixels[0])}, 15: {9: encoded(pixels[1])}}
    frames = [(15, 9, 0, [[TIP]]), (3, 7, 0, [[TIP]])]
    path = write_slp(tmp_path / "x.pkg.slp", ["tip"], backends, frames, version, packed)
    with pytest.raises(UserError, match=r"x\.pkg\.slp, frame 9: is not an image file\. Name a .*--images"):
        read(path)
    _, said = read(path, tmp_path)
    assert [one.image.name for one in said.images] == ["fly-1_000009.png", "fly-0_000007.png"]
    for one, stored in zip(said.images, pixels[::-1], strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(one.image)), stored[..., order])


VIDEO = {"filename": "/home/ada/fly.mp4", "type": "MediaVideo"}


@pytest.mark.parametrize(("backend", "frame", "said"), [
    (VIDEO, (0, 4, 0, [[TIP]]), "labels.slp, frame 4: image .*fly.mp4 is not in"),
    (VIDEO | {"filenames": ["gone.png"]}, (0, 0, 0, [[TIP]]), "frame 0: image gone.png is not in"),
    (VIDEO, (0, 4, 0, [[TIP], [TIP]]), "labels.slp, frame 4: has 2 instances"),
    (VIDEO, (0, 4, 1, [[TIP]]), "labels.slp: its 1 frames have only predictions"),
    (VIDEO, (0, 4, 0, [[TIP, EYE]]), "labels.slp, frame 4: has 2 points, but its skeleton has 1 nodes"),
])  # fmt: skip
def test_what_sleap_holds_and_we_do_not_is_said(backend, frame, said, tmp_path, write_slp):
    path = write_slp(tmp_path / "labels.slp", ["tip"], [backend], [frame])
    with pytest.raises(UserError, match=said):
        read(path, tmp_path)


def test_a_video_needs_a_reader(tmp_path, write_slp, monkeypatch):
    path = write_slp(tmp_path / "labels.slp", ["tip"], [VIDEO], [(0, 4, 0, [[TIP]])])
    (tmp_path / "fly.mp4").write_bytes(b"")
    monkeypatch.setattr("lannunet_formats.sleap.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"frame 4: is in the video fly\.mp4\. Save a package .*\[sleap\]"):
        read(path, tmp_path)


@pytest.mark.parametrize(("file", "extra"), [("CollectedData_A.h5", "deeplabcut"), ("labels.slp", "sleap")])
def test_without_h5py_the_extra_is_named(file, extra, tmp_path, monkeypatch):
    (tmp_path / file).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(8))
    with pytest.raises(UserError, match=f"{file}: is a damaged HDF5 file"):
        read(tmp_path / file)
    monkeypatch.setattr("lannunet_formats.hdf5.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{file}: reading \.\w+ needs h5py.*'lannunet-formats\[{extra}\]'"):
        read(tmp_path / file)
