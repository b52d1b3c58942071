"""The graph of a model predicts the same as the model, with every setting that affects predictions."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lannunet_landmarks.evaluation.reliability import ConfidenceCalibration
from lannunet_landmarks.predict.model import LandmarkModel

from lannunet_core import UserError


def opened(trained, **sections):
    """The model with other values in sections of its configuration."""
    model = LandmarkModel(trained.out)
    run = model.session.config
    changed = {name: getattr(run, name).model_copy(update=keys) for name, keys in sections.items()}
    model.session.loaded = replace(model.session.loaded, run=run.model_copy(update=changed))
    return model


def answered(graph, given):
    with torch.no_grad():
        outputs = graph.module(*map(torch.from_numpy, given))
    return {name: one.numpy() for name, one in zip(graph.outputs, outputs, strict=True)}


def agree(graph):
    for given in graph.examples:
        found = answered(graph, given)
        for name, value in graph.wanted(*given).items():
            np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("mode", ["scale_heatmap_first", "scale_pred_coords", "use_input_size"])
def test_points_are_the_models(trained, mode):
    graph = opened(trained, inference={"evaluation_mode": mode}).graph()
    assert graph.outputs == ("points", "confidence")
    assert set(graph.free) == {1, 2}
    assert len({given[0].shape for given in graph.examples}) == 3
    agree(graph)
    graph = opened(trained).graph((50, 40))
    assert {given[0].shape for given in graph.examples} == {(1, 40, 50)}
    assert not graph.free


def test_confidence_is_calibrated_and_presence_decided(trained):
    model = opened(trained, inference={"presence": True})
    session = model.session
    session.calibrations = (ConfidenceCalibration(3.0, "px", 0.7, 1.2, 40),)
    raw = [one.presence for one in model.predict([given[0] for given in model.graph().examples])]
    least = sorted(one[0] for one in raw)
    session.presence = [float(least[0] + least[1]) / 2, 0.0]
    model = model.graph()
    assert model.outputs == ("points", "confidence", "presence")
    assert model.about["radius"] == [3.0, "px"]
    assert any(np.isnan(answered(model, given)["points"]).any() for given in model.examples)
    agree(model)


def test_proportions_are_those_in_mm(trained):
    model = opened(trained)
    model.session.run = replace(model.session.run, spacing=(1.0, 2.0))
    graph = model.graph()
    assert graph.inputs == ("image", "spacing")
    agree(graph)


def test_another_decoder_stays_outside(trained):
    graph = opened(trained, inference={"decoder": "dark"}).graph()
    assert graph.outputs == ("maps", "affine", "size")
    assert graph.about["left_out"] == ["inference.decoder"]
    maps = answered(graph, graph.examples[0])["maps"]
    assert maps.shape == (1, 2, 32, 32) and maps.max() > 0


def test_what_no_graph_can_do_is_refused(trained, tmp_path):
    again = shutil.copy(trained.out / "checkpoints" / "best.safetensors", tmp_path / "again.safetensors")
    with pytest.raises(UserError, match="holds 2 models of an ensemble"):
        LandmarkModel(trained.out, also=[Path(again)]).graph()
    with pytest.raises(
        UserError, match=r"nonzero cannot be exported\. Choose one of zscore, percentile, none, ct"
    ):
        opened(trained, sampler={"normalisation": "nonzero"}).graph()
    patch = {"inference_mode": "patchify_and_stitch"}
    model = opened(trained)
    patch = model.session.config.sampler.patch.model_copy(update=patch)
    with pytest.raises(UserError, match=r"predicts patch by patch .* so it cannot be exported"):
        opened(trained, sampler={"sample_mode": "patch_bias", "patch": patch}).graph()
