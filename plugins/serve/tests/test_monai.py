"""MONAI Label's REST interface, as its documentation and 3D Slicer's client call it."""

import email
import json
import secrets

import numpy as np
import pytest
import SimpleITK as sitk

MODEL = "lannunet"


def form(fields, files):
    """A form as the client of 3D Slicer's extension encodes it."""
    limit = f"----------{secrets.token_hex(8)}"
    parts = [
        f'--{limit}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    for key, path in files.items():
        head = f'--{limit}\r\nContent-Disposition: form-data; name="{key}"; filename="{path}"\r\n'
        parts.append(
            f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + path.read_bytes() + b"\r\n"
        )
    body = b"".join(parts) + f"--{limit}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={limit}"}


def parts_of(response, head):
    """The named parts of a form, as the standard library reads it."""
    message = email.message_from_bytes(f"Content-Type: {head}\r\n\r\n".encode() + response)
    return {part.get_param("name", header="content-disposition"): part for part in message.get_payload()}


def test_info_names_the_model_its_labels_and_the_datastore(server):
    info = server.give("info/")
    assert info["labels"] == ["0", "1"]
    assert info["models"][MODEL]["labels"] == {"0": 1, "1": 2}
    assert (info["models"][MODEL]["type"], info["models"][MODEL]["dimension"]) == ("segmentation", 2)
    assert info["trainers"] == {} and list(info["strategies"]) == ["queue"]
    assert info["datastore"]["total"] >= info["datastore"]["completed"] >= 0


def test_the_client_uploads_an_image_and_gets_its_label_map(server, image):
    """The calls of the extension's client: upload_image, then infer."""
    import http.client

    body, headers = form({}, {"file": image})
    made = server.give("datastore/?image=mine", "PUT", body, headers=headers)
    status, same = server.ask(f"datastore/image?image={made['image']}")
    assert (status, same) == (200, image.read_bytes())
    assert made["image"] in server.give("datastore/?output=all")["objects"]

    body, headers = form({"params": "{}"}, {})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", f"/{server.token}/infer/{MODEL}?image={made['image']}", body, headers)
    response = connection.getresponse()
    parts = parts_of(response.read(), response.getheader("content-type"))
    connection.close()
    told = json.loads(parts["params"].get_payload(decode=True))
    assert told["label_names"] == {"0": 1, "1": 2}
    path = server.folder / str(parts["image"].get_filename())
    path.write_bytes(parts["image"].get_payload(decode=True))
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).squeeze()
    assert labels.shape == (64, 64) and set(np.unique(labels)) == {0, 1, 2}
    for value, point in enumerate(told["points"], 1):
        y, x = np.argwhere(labels == value).mean(axis=0)
        assert (x, y) == pytest.approx(point["at"], abs=0.6)


def test_infer_takes_a_file_and_gives_what_was_asked_for(server, image):
    body, headers = form({"params": '{"x": 1}'}, {"file": image})
    told = server.give(f"infer/{MODEL}?output=json", "POST", body, headers=headers)
    assert len(told["points"]) == 2 and told["lps"] is None  # a picture has no world
    status, label = server.ask(f"infer/{MODEL}?output=image", "POST", body, headers)
    assert status == 200 and label[:2] == b"\x1f\x8b"
    assert server.ask("infer/other", "POST", body, headers)[0] == 404
    assert server.ask(f"infer/{MODEL}?output=dicom_seg", "POST", body, headers)[0] == 422
    assert server.ask(f"infer/{MODEL}?image=nothing", "POST", *form({}, {}))[0] == 422


def test_the_next_sample_is_one_of_the_queue_that_is_not_saved(server):
    found = server.give("activelearning/queue", "POST", b"{}")
    unsaved = [one["key"] for one in server.give("state")["images"] if not one["saved"]]
    assert found["id"] == unsaved[0]
