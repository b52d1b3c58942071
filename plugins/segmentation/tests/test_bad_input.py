"""Each mistake in a segmentation data set ends the command with exit code 2 and one message."""

import json

import numpy as np
import pytest
import SimpleITK as sitk


def label(number=0):
    return lambda raw: raw / "labelsTr" / f"Tr{number}.nii.gz"


def image(number=0, channel=0):
    return lambda raw: raw / "imagesTr" / f"Tr{number}_{channel:04}.nii.gz"


def rewrite(which, change):
    """Replace an image by the result of `change` (pixels, SimpleITK image)."""

    def spoil(raw):
        path = which(raw)
        old = sitk.ReadImage(str(path))
        new = change(sitk.GetArrayFromImage(old), old)
        sitk.WriteImage(new, str(path))

    return spoil


def pixels(change):
    def made(array, old):
        new = sitk.GetImageFromArray(change(array))
        new.SetSpacing(old.GetSpacing())
        return new

    return made


def spaced(array, old):
    old.SetSpacing((1.0, 1.0, 1.5))
    return old


def turned(array, old):
    old.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return old


def elsewhere(array, old):
    old.SetOrigin((100.0, 0.0, 0.0))
    return old


def declared(**changes):
    def spoil(raw):
        path = raw / "dataset.json"
        description = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in description.items() if value is not None}))

    return spoil


LABELS = {"background": 0, "bright": 1, "dark": 2}

MISTAKES = {
    "label value outside the classes": (rewrite(label(), pixels(lambda a: a + 5)), "Tr0.nii.gz"),
    "label of another size": (rewrite(label(1), pixels(lambda a: a[:-1])), "Tr1.nii.gz: its size is"),
    "label of another spacing": (rewrite(label(1), spaced), "Tr1.nii.gz: its spacing is"),
    "labels that are no integers": (rewrite(label(), pixels(lambda a: a + np.float32(0.5))), "Tr0.nii.gz"),
    "channel missing": (declared(channel_names={"0": "T1", "1": "T2"}), "_0001"),
    "a key is missing": (declared(labels=None), '"labels"'),
    "another key is missing": (declared(file_ending=None), "file_ending"),
    "a case that is listed but absent": (lambda raw: image()(raw).unlink(), "Tr0"),
    "an image without its label": (lambda raw: label()(raw).unlink(), "Tr0.nii.gz"),
    "an ignore that is not the highest": (
        declared(labels={"background": 0, "bright": 1, "ignore": 2, "dark": 3}),
        "ignore",
    ),
    "a gap in the labels": (declared(labels=LABELS | {"dark": 3}), "without a gap"),
    "a case that leads away": (
        declared(
            dataset={
                "../../../victim": {"images": ["imagesTr/Tr0_0000.nii.gz"], "label": "labelsTr/Tr0.nii.gz"}
            }
        ),
        "cannot name a file",
    ),
    "a label that points another way": (rewrite(label(1), turned), "Tr1.nii.gz: its direction is"),
    "a label that lies elsewhere": (rewrite(label(1), elsewhere), "Tr1.nii.gz: by the origins"),
    "a damaged image": (lambda raw: image()(raw).write_bytes(b"no image"), "Tr0_0000.nii.gz"),
    "a damaged dataset.json": (lambda raw: (raw / "dataset.json").write_text("{"), "dataset.json"),
}


@pytest.mark.parametrize(("spoil", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_data_set_is_one_message(segmentation, capsys, spoil, said):
    spoil(segmentation.raw)
    victim = segmentation.folder.parent / "victim" / "precious"
    victim.parent.mkdir()
    victim.write_text("mine")
    assert segmentation.train() == 2
    assert victim.read_text() == "mine"
    message = capsys.readouterr().err
    assert message.count("Error: ") == 1
    assert said in message
    assert "Traceback" not in message
    assert not (segmentation.out / "checkpoints").exists()


def test_a_folder_of_nothing_is_refused(segmentation, capsys):
    for root, said in (("nowhere", "is not a folder"), (".", "is not an nnU-Net folder")):
        segmentation.set(dataset={"root": root})
        assert segmentation.train() == 2
        assert said in capsys.readouterr().err
