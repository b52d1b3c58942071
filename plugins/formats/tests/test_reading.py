"""Files as the programs write them: their content, and one sentence for each mistake."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_landmarks import load_dataset
from lannunet_landmarks.data.annotations import dataset_section
from lannunet_landmarks.data.exchange import format_of, read_source
from lannunet_landmarks.data.exported import in_system
from lannunet_landmarks.data.formats import Mark, format_called
from PIL import Image

from lannunet_core import State, UserError, cli

SPLITS = ("training", "validation", "testing")
SLICER = {
    "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#",
    "markups": [
        {
            "type": "Fiducial",
            "coordinateSystem": "LPS",
            "coordinateUnits": "mm",
            "locked": False,
            "fixedNumberOfControlPoints": False,
            "labelFormat": "%N-%d",
            "lastUsedControlPointNumber": 3,
            "controlPoints": [
                {
                    "id": "1",
                    "label": "tip",
                    "description": "",
                    "associatedNodeID": "vtkMRMLScalarVolumeNode1",
                    "position": [-29.3, 11.4, 38.0],
                    "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],
                    "selected": True,
                    "locked": False,
                    "visibility": True,
                    "positionStatus": "defined",
                },
                {"id": "2", "label": "eye", "position": [0.0, 0.0, 0.0], "positionStatus": "undefined"},
                {"id": "3", "label": "ear", "positionStatus": "missing"},
            ],
            "measurements": [],
            "display": {"visibility": True, "opacity": 1.0},
        }
    ],
}
FCSV = """# Markups fiducial file version = 5.6
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
1,{x},{y},38.0,0,0,0,1,1,1,0,tip,"a, b",vtkMRMLScalarVolumeNode1,2,0
2,0,0,0,0,0,0,1,1,1,0,eye,,,0,0
3,0,0,0,0,0,0,1,1,1,0,ear,,,3,0
"""
COCO = {
    "info": {"description": "", "version": "1.0"},
    "licenses": [],
    "images": [
        {"id": 7, "file_name": "a0.png", "width": 60, "height": 40, "license": 0},
        {"id": 9, "file_name": "C:\\data\\a1.png", "width": 60, "height": 40},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 1,
            "keypoints": [10.5, 20.25, 2, 30, 5, 1, 0, 0, 0],
            "num_keypoints": 2,
            "bbox": [0, 0, 60, 40],
            "area": 2400,
            "iscrowd": 0,
        }
    ],
    "categories": [
        {"id": 1, "name": "fly", "keypoints": ["tip", "eye", "ear"], "skeleton": [[1, 2]]},
        {"id": 2, "name": "box"},
    ],
}
LABELME = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [
        {
            "label": "tip",
            "points": [[11.0, 20.75]],
            "group_id": None,
            "description": "",
            "shape_type": "point",
            "flags": {},
            "mask": None,
        },
        {
            "label": "eye",
            "points": [[30.5, 5.5]],
            "group_id": None,
            "shape_type": "point",
            "flags": {"occluded": True},
        },
        {"label": "fly", "points": [[0, 0], [60, 40]], "shape_type": "rectangle", "flags": {}},
    ],
    "imagePath": "..\\pictures\\a0.png",
    "imageData": None,
    "imageHeight": 40,
    "imageWidth": 60,
}
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <job><id>1</id><size>2</size><mode>annotation</mode>
      <labels>
        <label><name>fly</name><color>#1a</color><type>skeleton</type><attributes></attributes></label>
        <label><name>tip</name><type>points</type><attributes></attributes><parent>fly</parent></label>
        <label><name>eye</name><type>points</type><attributes></attributes><parent>fly</parent></label>
        <label><name>ear</name><type>points</type><attributes></attributes><parent>fly</parent></label>
      </labels>
    </job>
  </meta>
  <image id="0" name="a0.png" subset="Train" task_id="1" width="60" height="40">
    <skeleton label="fly" source="manual" z_order="0">
      <points label="ear" source="manual" outside="1" occluded="0" points="1.00,1.00"></points>
      <points label="eye" source="manual" outside="0" occluded="1" points="30.50,5.50"></points>
      <points label="tip" source="manual" outside="0" occluded="0" points="11.00,20.75"></points>
    </skeleton>
  </image>
  <image id="1" name="a1.png" subset="Test" width="60" height="40"></image>
</annotations>
"""
LABEL_STUDIO = [
    {
        "id": 4,
        "data": {"image": "/data/upload/1/0a1b2c3d-a0.png"},
        "annotations": [
            {
                "id": 2,
                "completed_by": 1,
                "was_cancelled": False,
                "ground_truth": False,
                "result": [
                    {
                        "original_width": 60,
                        "original_height": 40,
                        "image_rotation": 0,
                        "value": {"x": 55 / 3, "y": 51.875, "width": 0.7, "keypointlabels": ["tip"]},
                        "id": "hqudA4A3U4",
                        "from_name": "kp",
                        "to_name": "img",
                        "type": "keypointlabels",
                        "origin": "manual",
                    },
                    {"type": "choices", "value": {"choices": ["good"]}},
                ],
            }
        ],
        "predictions": [],
    }
]
DLC = """scorer,,,Ada,Ada,Ada,Ada
bodyparts,,,tip,tip,eye,eye
coords,,,x,y,x,y
labeled-data,clip,img001.png,10.5,20.25,,
labeled-data,clip,img002.png,11.5,21.25,30.0,5.0
"""
OURS = DLC.replace("img001", "a0").replace("img002", "a1")  # of the pictures here
DLC_ANIMALS = """scorer,Ada,Ada,Ada,Ada
individuals,one,one,two,two
bodyparts,tip,tip,tip,tip
coords,x,y,x,y
labeled-data/clip/img001.png,10.5,20.25,,
labeled-data/clip/img002.png,,,11.5,21.25
"""
TPS = """LM=3
10.5 19.75
30 35
-1 -1
CURVES=1
POINTS=2
1 1
2 2
IMAGE=a0.png
ID=0
SCALE=0.013

LM=3
1 39
2 38
NA NA
IMAGE=a1.png
ID=1
"""
MORPHOLOGIKA = """[individuals]
2
[landmarks]
2
[dimensions]
2
[names]
a0
a1
[labels]
sex
[labelvalues]
f
m
[rawpoints]

'#1
10.5 20.25
NA NA

'#2
1 2
3 4
"""
WIDE = "Image;Split;tip_x;tip_y;eye_x;eye_y\na0.png;train;10,5;20,25;;\na1.png;test;1;2;absent;absent\n"
LONG = """image\tlandmark\tx\ty\tstate\tpatient
a0.png\ttip\t10.5\t20.25\t\tp1
a0.png\teye\t30\t5\toccluded\tp1
a1.png\ttip\t\t\tabsent\tp2
"""


@pytest.fixture
def place(tmp_path, pictures):
    """A folder next to the images, in which tests write a file."""

    def put(name, content):
        path = pictures.parent / tmp_path.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return put


def read(path, images, **options):
    of = format_of(path, -1)
    return of.name, read_source(path, of, images, **options)


TIP, EYE = Mark((10.5, 20.25)), Mark((30.0, 5.0), occluded=True)


@pytest.mark.parametrize(
    ("name", "file", "content", "expected"),
    [
        ("coco", "person_keypoints.json", COCO, [{"tip": TIP, "eye": EYE}, {}]),
        ("labelme", "a0.json", LABELME, [{"tip": TIP, "eye": EYE}]),
        ("cvat", "annotations.xml", CVAT, [{"tip": TIP, "eye": EYE, "ear": Mark(None)}, {}]),
        ("label-studio", "project-1-at-2026.json", LABEL_STUDIO, [{"tip": TIP}]),
        (
            "tps",
            "flies.TPS",
            TPS,
            [{"1": TIP, "2": Mark((30.0, 5.0))}, {"1": Mark((1.0, 1.0)), "2": Mark((2.0, 2.0))}],
        ),
        (
            "morphologika",
            "flies.txt",
            MORPHOLOGIKA,
            [{"1": TIP}, {"1": Mark((1.0, 2.0)), "2": Mark((3.0, 4.0))}],
        ),
        ("csv-wide", "wide.csv", WIDE, [{"tip": TIP}, {"tip": Mark((1.0, 2.0)), "eye": Mark(None)}]),
        ("csv", "long.tsv", LONG, [{"tip": TIP, "eye": EYE}, {"tip": Mark(None)}]),
    ],
)
def test_what_programs_write_is_understood(name, file, content, expected, place, pictures):
    found, said = read(place(file, content), pictures)
    assert found == name
    assert [one.image.name for one in said.images] == ["a0.png", "a1.png"][: len(expected)]
    for one, marks in zip(said.images, expected, strict=True):
        assert {
            key: (mark.at and pytest.approx(mark.at, abs=1e-9), mark.occluded) for key, mark in marks.items()
        } == {key: (mark.at, mark.occluded) for key, mark in one.marks.items()}


@pytest.mark.parametrize(
    ("file", "content", "note"),
    [
        (
            "w.CSV",
            WIDE.replace("\n", "\r\n").encode("utf-8-sig"),
            "the comma in a number is read as its decimal",
        ),
        ("w.csv", WIDE.replace(";", "\t").encode("utf-16"), "the comma in a number is read as its decimal"),
        ("w.csv", ("\n" + LONG.replace("a0.png", " C:\\x\\A0.PNG ")).encode(), None),
        ("k.json", json.dumps(COCO).replace("a0.png", "IMAGES/A0.PNG").encode("utf-8-sig"), None),
        (
            "d.csv",
            DLC.replace("img001", "a0").replace("img002", "a1").replace(",", ";").replace(".5;", ",5;"),
            "comma",
        ),
        ("d.csv", DLC.replace("img001.png", "A0.PNG").replace("img002", "a1").replace("\n", "\r\n"), None),
        ("t.tps", TPS.replace("a0.png", "D:\\flies\\A0.png").replace("\n", "\r\n"), "y is assumed"),
        ("m.txt", MORPHOLOGIKA.replace("\na0\n", "\nA0.png\n").replace("\n", "\r\n"), None),
        ("w.csv", LONG.replace("a0.png", "PICTURES/a0.png"), None),
    ],
)
def test_as_other_systems_and_spreadsheets_write_it(file, content, note, place, pictures):
    """Line endings, byte-order marks, decimal commas, and paths and letter case of another system."""
    if isinstance(content, str):
        content = content.replace("PICTURES", str(pictures))  # an absolute path
    _, said = read(place(file, content), pictures)
    assert [one.image.name for one in said.images] == ["a0.png", "a1.png"]
    assert next(iter(said.images[0].marks.values())).at == pytest.approx((10.5, 20.25))
    assert any(note in one for one in said.notes) if note else said.notes == ()


def test_a_folder_of_labelme_may_hold_folders_and_other_json(place, pictures):
    folder = place("set/one/a0.JSON", LABELME).parents[1]
    turned = {**LABELME, "imagePath": "a1.png", "shapes": LABELME["shapes"][::-1]}  # another order of labels
    place("set/two/a1.json", turned)
    place("set/two/old.json", {"training": []})
    name, said = read(folder, pictures)
    assert name == "labelme"
    assert [(one.image.name, one.marks) for one in said.images] == [
        ("a0.png", {"tip": TIP, "eye": EYE}),
        ("a1.png", {"tip": TIP, "eye": EYE}),
    ]
    assert "1 JSON files that are not of LabelMe are left out" in said.notes[1]
    place("set/two/again.json", LABELME)
    with pytest.raises(UserError, match=r"again\.json: has the same image .*a0\.png as .*a0\.JSON"):
        load_dataset(dataset_section(folder, pictures), -1)


def test_order_lists_fields_and_what_is_left_out(place, pictures):
    _, cvat = read(place("annotations.xml", CVAT), pictures)
    assert cvat.names == ("tip", "eye", "ear")  # as the labels stand in CVAT
    assert [one.split for one in cvat.images] == ["training", "testing"]
    _, labelme = read(place("a0.json", LABELME), pictures)
    assert "1 shapes that are not points are left out" in labelme.notes[0]
    _, tps = read(place("flies.tps", TPS), pictures)
    assert tps.images[0].extra == {"tps_id": "0", "tps_scale": "0.013"}
    assert "1 curves" in tps.notes[0]
    assert "y is assumed to point up, as tpsDig writes it. If it points down, set --y-down" in tps.notes[1]
    assert "1 landmarks with a negative coordinate" in tps.notes[2]
    _, long = read(place("long.tsv", LONG), pictures)
    assert [one.extra for one in long.images] == [{"patient": "p1"}, {"patient": "p2"}]
    _, wide = read(place("wide.csv", WIDE), pictures)
    assert [one.split for one in wide.images] == ["training", "testing"]


def test_points_of_a_volume_may_be_negative(place, volumes):
    _, tps = read(place("scan.tps", "LM3=2\n3 -2 4\nNA NA NA\nIMAGE=v0.nii.gz\n"), volumes)
    assert tps.images[0].marks == {"1": Mark((3.0, -2.0, 4.0))}
    assert tps.notes == ()


def test_y_upwards_is_turned_and_back(place, pictures):
    _, down = read(place("long.csv", LONG.replace("\t", ",")), pictures)
    _, up = read(place("long.csv", LONG.replace("\t", ",")), pictures, y_up=True)
    assert up.images[0].marks["tip"].at == (10.5, 39 - down.images[0].marks["tip"].at[1])
    _, tps = read(place("flies.tps", TPS), pictures, y_up=False)
    assert tps.images[0].marks["1"].at == (10.5, 19.75)
    assert not any("y is assumed" in note for note in tps.notes)


NEGATIVE = """ObjectType = Image
NDims = 3
DimSize = 4 4 4
ElementType = MET_UCHAR
ElementSpacing = 2 -3 1
Offset = -30 12 35
ElementDataFile = v0.raw
"""


@pytest.mark.parametrize("image", ["v0.nii.gz", "v0.mhd"])
@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_slicer(system, image, tmp_path, volumes):
    """The voxel is the one that SimpleITK says, oblique or with a negative spacing, and back; undefined is
    unlabelled, missing is absent."""
    if image == "v0.mhd":
        volumes = tmp_path / "images"
        volumes.mkdir()
        (volumes / image).write_text(NEGATIVE)
        (volumes / "v0.raw").write_bytes(bytes(64))
    sign = -1 if system == "RAS" else 1
    markup = json.loads(json.dumps(SLICER))
    markup["markups"][0]["coordinateSystem"] = system
    x, y, z = markup["markups"][0]["controlPoints"][0]["position"]
    markup["markups"][0]["controlPoints"][0]["position"] = [sign * x, sign * y, z]
    (tmp_path / "v0.mrk.json").write_text(json.dumps(markup))
    (tmp_path / "v0.fcsv").write_text(FCSV.format(system=system, x=sign * x, y=sign * y))
    voxel = sitk.ReadImage(str(volumes / image)).TransformPhysicalPointToContinuousIndex((x, y, z))
    for file, name in (("v0.mrk.json", "slicer"), ("v0.fcsv", "fcsv")):
        found, said = read(tmp_path / file, volumes)
        assert (found, said.names) == (name, ("tip", "ear"))
        (one,) = in_system(said, "pixel").images
        np.testing.assert_allclose(one.marks["tip"].at, voxel, atol=1e-4)  # NIfTI holds floats
        assert one.marks["ear"].at is None
        (back,) = in_system(in_system(said, "pixel"), "LPS").images
        np.testing.assert_allclose(back.marks["tip"].at, (x, y, z), atol=1e-6)


def test_a_folder_for_each_case_and_an_old_fcsv(tmp_path, volumes):
    for case in ("one", "two"):
        (tmp_path / case).mkdir()
        (tmp_path / case / "scan.nii.gz").write_bytes((volumes / "v0.nii.gz").read_bytes())
        text = (
            FCSV.format(system="RAS", x=29.3, y=-11.4)
            .replace("5.6", "4.10")
            .replace("# CoordinateSystem = RAS\n", "")
        )
        (tmp_path / case / "F.fcsv").write_text(text)
    _, said = read(tmp_path, None)
    assert [one.image.parent.name for one in said.images] == ["one", "two"]
    assert said.images[0].marks["tip"].at == (-29.3, 11.4, 38.0)  # without a declaration it was in RAS
    dataset = load_dataset(dataset_section(tmp_path), -1)
    assert {one.id for of in dataset.samples.values() for one in of} == {"one/scan", "two/scan"}


@pytest.mark.parametrize("table", [DLC, DLC_ANIMALS])
def test_a_project_of_deeplabcut(table, tmp_path, pictures):
    clip = tmp_path / "labeled-data" / "clip"
    clip.mkdir(parents=True)
    for n in (1, 2):
        (clip / f"img00{n}.png").write_bytes((pictures / f"a{n}.png").read_bytes())
    (clip / "CollectedData_Ada.csv").write_text(table)
    for path in (tmp_path, clip, clip / "CollectedData_Ada.csv"):
        name, said = read(path, None)
        assert name == "deeplabcut"
        assert [one.marks["tip"].at for one in said.images] == [(10.5, 20.25), (11.5, 21.25)]
        assert (said.images[0].extra, said.group_by) == ({"video": "clip"}, "video")


def test_label_maps_of_nnlandmark(tmp_path, volumes):
    for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "name_to_label.json").write_text('{"background": 0, "tip": 2, "eye": 1}')
    spacing = {
        "a": {"image_spacing": [1, 1, 1], "annotation_spacing": None},
        "b": {"image_spacing": None, "annotation_spacing": [1, 2, 3]},
    }
    (tmp_path / "spacing.json").write_text(json.dumps(spacing))
    image = sitk.ReadImage(str(volumes / "v0.nii.gz"))
    label = np.zeros((12, 16, 20), np.uint8)
    label[2:5, 4:7, 8:11] = 2
    label[7:9, 4:7, 8:11] = 1
    for case, part in (("a", "Tr"), ("b", "Ts")):
        written = sitk.GetImageFromArray(label)
        written.CopyInformation(image)
        sitk.WriteImage(written, str(tmp_path / f"labels{part}" / f"{case}.nii.gz"))
        sitk.WriteImage(image, str(tmp_path / f"images{part}" / f"{case}_0000.nii.gz"))
    name, said = read(tmp_path, None)
    assert (name, said.names) == ("nnlandmark", ("eye", "tip"))
    assert [one.split for one in said.images] == ["training", "testing"]
    assert said.images[0].marks == {"tip": Mark((9.0, 5.0, 3.0)), "eye": Mark((9.0, 5.0, 7.5))}
    assert [one.spacing for one in said.images] == [None, (1.0, 2.0, 3.0)]
    label[10, 14, 18] = 1
    sitk.WriteImage(sitk.GetImageFromArray(label), str(tmp_path / "labelsTs" / "b.nii.gz"))
    with pytest.raises(UserError, match=r"b\.nii\.gz: eye \(value 1\) has 2 blobs"):
        read(tmp_path, None)


def changed(content, *path, value):
    """A copy of a nested JSON with one value replaced."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (
            "k.json",
            changed(COCO, "images", 0, "file_name", value="b.png"),
            r"k\.json, image b\.png: image b\.png is not in .*--images",
        ),
        (
            "k.json",
            changed(COCO, "annotations", 0, "keypoints", value=[1, 2, 2]),
            "k.json, image a0.png: has 3 numbers of keypoints, should have 3 per keypoint of 3",
        ),
        (
            "k.json",
            changed(COCO, "annotations", 0, "image_id", value=8),
            'annotations are of image 8, which is not in "images"',
        ),
        (
            "k.json",
            changed(COCO, "annotations", value=COCO["annotations"] * 2),
            "k.json, image a0.png: has 2 objects with keypoints",
        ),
        (
            "k.json",
            changed(COCO, "images", 0, "width", value=40),
            "was annotated at 40×40 pixels, but .*a0.png has 60×40",
        ),
        (
            "k.json",
            changed(COCO, "annotations", 0, "keypoints", value=[1, "x", 2] * 3),
            "k.json, image a0.png: .* are not coordinates",
        ),
        ("l.json", changed(LABELME, "shapes", 1, "label", value="tip"), "l.json: tip is placed twice"),
        (
            "l.json",
            changed(LABELME, "shapes", 0, "points", value=[]),
            r"l\.json: point tip is \[\], should be",
        ),
        ("l.json", changed(LABELME, "imagePath", value="b.png"), "image b.png is not in"),
        (
            "k.json",
            changed(COCO, "annotations", 0, "category_id", value=5),
            "k.json, annotation 1: has keypoints of the category 5, which has no names of keypoints",
        ),
        (
            "k.json",
            changed(COCO, "annotations", 0, value=3),
            'k.json: "annotations" contains 3, not an object',
        ),
        (
            "k.json",
            changed(COCO, "images", 1, "id", value=7),
            'k.json: two of its "images" have the id 7',
        ),
        ("l.json", changed(LABELME, "shapes", 0, value=3), r'l\.json: "shapes" contains 3, not an object'),
        (
            "c.xml",
            CVAT.replace('<points label="tip"', '<points label="nose"'),
            r"c\.xml, image a0\.png: nose is not one of the task's labels \(fly, tip, eye, ear\)",
        ),
        ("c.xml", CVAT.replace("</skeleton>", '</skeleton><skeleton label="fly"/>'), "has 2 skeletons"),
        ("c.xml", CVAT.replace('<points label="ear"', "<points"), "image a0.png: <points> has no label"),
        (
            "s.json",
            changed(LABEL_STUDIO, 0, "annotations", 0, "result", 0, "value", "keypointlabels", value=[]),
            "s.json, task 4: a point has 0 labels",
        ),
        (
            "d.csv",
            DLC.replace("tip,tip,eye,eye", "tip,tip,tip,tip"),
            r"d\.csv: has two columns of tip x",
        ),
        ("t.tps", TPS.replace("LM=3", "LM=three", 1), "t.tps, line 1: 'three' is not a count"),
        ("m.txt", MORPHOLOGIKA.replace("]\n2", "]\ntwo", 1), "m.txt, line 2: 'two' is not a count"),
        ("w.csv", WIDE.replace("eye_y", "Tip_x"), r"w\.csv: has column 'tip_x' twice"),
        (
            "w.csv",
            WIDE.replace("eye_y", "nose_y"),
            r"w\.csv: column 'eye_x' has no column for the other axis",
        ),
        ("w.csv", LONG.replace("state", "confidence"), "column 'confidence': 'occluded' is not a number"),
        ("w.csv", LONG.replace("\t30\t", "\t30\u00a0\t").encode("cp1252"), r"w\.csv: is not in UTF-8 \(byte"),
        ("w.csv", LONG.replace("occluded", "gone"), "line 3, column 'state': 'gone' is not a state"),
        ("c.xml", CVAT.replace("</annotations>", ""), "c.xml, line 23, column 0: malformed XML"),
        ("c.xml", CVAT.replace("<image ", "<track/><image ", 1), "export for videos"),
        ("c.xml", CVAT.replace('label="eye"', 'label="tip"'), "c.xml, image a0.png: tip is placed twice"),
        ("c.xml", CVAT.replace("11.00,20.75", "11.00"), "c.xml, image a0.png: tip is .* should be x,y"),
        (
            "s.json",
            changed(LABEL_STUDIO, 0, "annotations", value=LABEL_STUDIO[0]["annotations"] * 2),
            "s.json, task 4: has 2 annotations",
        ),
        ("d.csv", DLC_ANIMALS.replace("20.25,,", "20.25,1,2"), "d.csv, line 5: has 2 individuals"),
        ("d.csv", DLC.replace("20.25", "n/a"), "d.csv, line 4: .* are not coordinates"),
        ("d.csv", DLC.replace("20.25,,", "20.25"), "d.csv, line 4: has 5 cells under 7 columns"),
        (
            "t.tps",
            TPS.replace("LM=3\n1 39", "LM=2\n1 39").replace("NA NA\n", ""),
            "t.tps, line 13: has 2 landmarks, but the first block has 3",
        ),
        ("t.tps", TPS.replace("30 35\n", ""), "t.tps, line 4: 'CURVES=1' is not a point of 2 numbers"),
        (
            "m.txt",
            MORPHOLOGIKA.replace("3 4\n", ""),
            "m.txt: states 2 individuals of 2 landmarks, but has 2 names and 3 points",
        ),
        ("w.csv", WIDE.replace(";20,25", ""), "w.csv, line 2: has 5 cells under 6 columns"),
        (
            "w.csv",
            LONG.replace("\t", ",").replace("10.5", "here"),
            r"w\.csv, line 2: \['here', '20.25'\] are not coordinates",
        ),
        ("w.csv", LONG.replace("\t", ",").replace("eye", "tip"), "w.csv, line 3: tip is placed twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(file, content, said, place, pictures):
    """Missing image, wrong count, unknown or repeated label, several instances: named with file and line."""
    path = place(file, content)
    with pytest.raises(UserError, match=said) as error:
        read(path, pictures)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("path", "value", "said"), [
    (("controlPoints", 0, "position"), [1, 2], "v0.mrk.json, point tip: its position has 2 numbers"),
    (("controlPoints", 1, "label"), "tip", None),
    (("controlPoints", 2, "label"), "tip", "v0.mrk.json, point tip: tip is placed twice"),
    (("coordinateSystem",), "IJK", "v0.mrk.json: its coordinate system is IJK"),
    (("coordinateUnits",), "cm", "v0.mrk.json: its coordinates are in cm"),
    (("controlPoints",), None, 'v0.mrk.json: "controlPoints" is missing'),
    (("controlPoints", 0, "positionStatus"), "lost", "v0.mrk.json, point tip: its status is lost, should be"),
    (("type",), "Curve", "annotates no landmark of any image.*a markup of type Curve is left out"),
])  # fmt: skip
def test_wrong_markups(path, value, said, tmp_path, volumes):
    (tmp_path / "v0.mrk.json").write_text(json.dumps(changed(SLICER, "markups", 0, *path, value=value)))
    if said is None:
        assert read(tmp_path, volumes)[1].names == ("tip", "ear")
        return
    with pytest.raises(UserError, match=said):
        read(tmp_path, volumes)


def test_states_reach_the_data_set(place, pictures):
    dataset = load_dataset(dataset_section(place("annotations.xml", CVAT), pictures), -1)
    (one,) = dataset.samples["training"]
    assert one.states.tolist() == [State.VISIBLE, State.VISIBLE, State.ABSENT]
    assert one.occluded.tolist() == [False, True, False]
    assert (
        not dataset.samples["testing"][0].coordinates.any()
        or np.isnan(dataset.samples["testing"][0].coordinates).all()
    )


@pytest.mark.parametrize(("file", "content"), [
    ("a0.json", json.dumps(LABELME)),
    ("annotations.xml", CVAT),
    ("project.json", json.dumps(LABEL_STUDIO)),
    ("coco.json", json.dumps({**COCO, "images": COCO["images"][:1]})),
])  # fmt: skip
def test_a_turned_photograph_is_annotated_upright(file, content, tmp_path, pictures):
    """The EXIF orientation is sideways: the size and the points are those of the upright image."""
    picture = Image.open(pictures / "a0.png").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture.save(tmp_path / "a0.jpg", exif=exif)
    (tmp_path / "a1.png").write_bytes((pictures / "a1.png").read_bytes())
    content = content.replace("..\\\\pictures\\\\", "").replace("a0.png", "a0.jpg")
    (tmp_path / file).write_text(content)
    _, said = read(tmp_path / file, None)
    assert said.images[0].marks["tip"].at == pytest.approx((10.5, 20.25))
    lying = content
    for one in ('"imageWidth": 60', '"original_width": 60', '"width": 60', 'width="60"'):
        lying = lying.replace(one, one.replace("60", "40"))
    (tmp_path / file).write_text(lying)
    with pytest.raises(UserError, match=r"was annotated at 40×40 pixels, but .*a0\.jpg has 60×40"):
        read(tmp_path / file, None)


def test_an_nnunet_folder_is_taken_by_name(tmp_path, volumes, annotated):
    format_called("nnlandmark", "").write(
        annotated(volumes, np.full((3, 1, 3), 5.0), ["tip"]), tmp_path / "out"
    )
    (tmp_path / "out" / "name_to_label.json").unlink()
    assert format_of(tmp_path / "out", -1) is None
    found = read_source(tmp_path / "out", format_of(tmp_path / "out", -1, "nnLandmark"))
    assert [one.marks["tip"].at for one in found.images] == [(5.0, 5.0, 5.0)] * 3


def test_folds_and_missing_and_the_draw(tmp_path, pictures, annotated, capsys):
    """Images of a source without lists get the same split, independent of their folder and order."""
    made = annotated(pictures, np.arange(36.0).reshape(6, 3, 2))
    made.images[1].marks.pop("tip")
    format_called("coco", "").write(made, tmp_path / "coco.json")
    format_called("cvat", "").write(replace(made, images=made.images[::-1]), tmp_path / "cvat.xml")

    def run(*words):
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        assert not end.value.code, capsys.readouterr().err

    run("folds", tmp_path / "coco.json", "-o", tmp_path / "folds", "--count", "3")
    tested = [json.loads((tmp_path / "folds" / f"fold{n}.json").read_text())["testing"] for n in range(3)]
    assert sorted(one["id"] for of in tested for one in of) == [f"a{n}" for n in range(6)]
    lists = []
    sources = (("coco.json", ()), ("cvat.xml", ("--missing", "absent")), ("coco.json", ("--seed", 1)))
    for source, options in sources:
        run("import", tmp_path / source, "-o", tmp_path / f"{len(lists)}.json", *options)
        content = json.loads((tmp_path / f"{len(lists)}.json").read_text())
        every = {one["id"]: one for split in SPLITS for one in content[split]}
        tip = every["a1"]["coordinates"][content["landmark_names"].index("tip")]
        assert tip == ("absent" if "--missing" in options else None)
        lists.append([{one["id"] for one in content[split]} for split in SPLITS])
    assert lists[0] == lists[1] != lists[2]
    assert [len(of) for of in lists[0]] == [4, 1, 1]
    assert "note: " in capsys.readouterr().err
