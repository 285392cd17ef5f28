"""What is given as weights and is none is called by its name, with what to do, in a message of bounded length."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from sktl import PretrainedImageClassifier
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.weights import read_state_dict
from sktl._short_text import type_of
from sktl.exceptions import InvalidParameterError, WeightsCorruptError, WeightsError, WeightsMismatchError

NETWORK = "timm/test_resnet"
INDEX = {"metadata": {"total_size": 1}, "weight_map": {f"layer{i}.weight": "model-1.safetensors" for i in range(400)}}


def zipped(*names):
    with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return content.getvalue()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3).eval()


FILES = {
    "empty": (b"", r"is empty\. Fetch or save it again"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "is a Git LFS pointer"),
    "page": (b"<!DOCTYPE html><html>404</html>", r"is a web page\. Download the file itself"),
    "index": (json.dumps(INDEX).encode(), r"is the index of weights in several files\. Load them all, and save one"),
    "json": (b'{"architectures": ["ResNet"]}', r"is JSON, without tensors\. Pass the weights file next to it"),
    "keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "is a Keras model"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), r"is an HDF5 file, such as Keras writes\. Load it with"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(100), "is an ONNX model"),
    "tensorflow": (b"\x08\x01\x12\xc6" + bytes(100), "is a TensorFlow model"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="x" version="11">', "is an OpenVINO model"),
    "numpy": (zipped("a.npy"), "is a NumPy archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), r"is a compressed archive\. Unpack it"),
    "zip": (zipped("folder/model.pth"), r"is an archive of files\. Unpack it"),
    "cut zip": (zipped("a", "b")[:-10], r"is damaged: its end is missing\. Fetch or save it again"),
    "text": (b"weights of mine", "is damaged or not a .safetensors or .pth file"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".anything"])
@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path, kind, suffix):
    content, words = FILES[kind]
    (path := tmp_path / f"weights{suffix}").write_bytes(content)
    with pytest.raises(WeightsCorruptError, match=rf"weights='.*weights\{suffix}' {words}") as caught:
        read_state_dict(path)
    assert len(str(caught.value)) < 500


@pytest.mark.filterwarnings("ignore:`torch.jit.(script|save|load):FutureWarning", "error:.*TorchScript")
def test_programs_of_torch_are_called_by_their_name(tmp_path):
    module = nn.Linear(2, 2)
    torch.jit.script(module).save(script := tmp_path / "script.pt")
    with pytest.raises(
        WeightsCorruptError, match=r"is a TorchScript archive.*torch\.jit\.load\(path\)\.state_dict\(\)"
    ):
        read_state_dict(script)
    torch.export.save(torch.export.export(module, (torch.ones(1, 2),)), program := tmp_path / "program.pt2")
    with pytest.raises(WeightsCorruptError, match=r"is a torch\.export program"):
        read_state_dict(program)


def test_a_folder_names_the_weights_in_it(tmp_path):
    with pytest.raises(WeightsError, match=r"is a folder, not a file\. Pass a file\."):
        read_state_dict(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"Pass a file in it, such as '.*model\.safetensors'"):
        read_state_dict(tmp_path)


def test_an_optimizer_alone_is_no_state_dict(tmp_path):
    module = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters(), momentum=0.9)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for content, words in ((optimizer.state_dict(), "but the state of an optimizer"), ({"epoch": 3}, "but 'epoch'")):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(WeightsCorruptError, match=f"holds no tensors, {words}: it is not a state dict"):
            read_state_dict(tmp_path / "x.pth")
    torch.save({str(i): i for i in range(400)}, tmp_path / "x.pth")
    with pytest.raises(WeightsCorruptError, match="and 395 more"):
        read_state_dict(tmp_path / "x.pth")


class TrainingScript(nn.Module):
    """As training scripts hold a network: with an output layer of theirs and a loss."""

    def __init__(self, network, name):
        super().__init__()
        self.add_module(name, network)
        self.head, self.criterion = nn.Linear(2, 2), nn.CrossEntropyLoss(torch.ones(2))


CHECKPOINTS = {
    "lightning": lambda net: {"state_dict": TrainingScript(net, "model").state_dict(), "optimizer_states": [{}]},
    "torchvision": lambda net: {"model": net.state_dict(), "optimizer": {"state": {}, "param_groups": []}, "epoch": 3},
    "timm": lambda net: {"state_dict_ema": net.state_dict(), "state_dict": {}, "arch": "test_resnet"},
    "parallel": lambda net: {f"module.{key}": value for key, value in net.state_dict().items()},
    "dino": lambda net: {
        name: {f"backbone.{key}": value + (name == "student") for key, value in net.state_dict().items()}
        for name in ("student", "teacher")},
    "own name": lambda net: {"generator_of_features": net.state_dict(), "epoch": 3},
    "module of sktl": lambda net: TrainingScript(net, "backbone").state_dict(),
    "deep": lambda net: {"state_dict": {f"a.b.{key}": value for key, value in net.state_dict().items()} | {
        "loss.weight": torch.ones(2)}},
    "without output layer": lambda net: {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")},
    "half": lambda net: {k: v.bfloat16() if v.is_floating_point() else v for k, v in net.state_dict().items()},
}  # fmt: skip


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_checkpoints_of_training_scripts_are_read(tmp_path, network, form):
    torch.save(CHECKPOINTS[form](network), path := tmp_path / "x.ckpt")
    found = resolve_backbone(NETWORK, path, None, 0).build().state_dict()
    expected = network.state_dict()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name].bfloat16().float() if form == "half" else expected[name])


def test_a_checkpoint_with_several_such_networks_is_refused(tmp_path, network):
    state = {f"{name}.{key}": value for name in ("query", "momentum") for key, value in network.state_dict().items()}
    torch.save(state, path := tmp_path / "x.pth")
    with pytest.raises(
        WeightsMismatchError, match=r"holds 2 such networks, whose names begin with query\., momentum\."
    ):
        resolve_backbone(NETWORK, path, None, 0).build()


@pytest.mark.parametrize("backbone", [NETWORK, "squeezenet1_1"])
@pytest.mark.parametrize(
    ("n_channels", "message"),
    [
        (1, r"1 channel, and sktl passes 3: .*\. Repeat the channel, divide it by 3.*\.repeat\(1, 3, 1, 1\) / 3"),
        (4, r"4 channels, and sktl passes 3: .*\. Pass weights that were trained on images of 3 channels"),
    ],
)
def test_weights_for_images_of_other_channels_say_so(tmp_path, network, backbone, n_channels, message):
    bare = resolve_backbone(backbone, None, None, 0).build()
    state = bare.state_dict()
    first = next(name for name, tensor in state.items() if tensor.ndim == 4)
    torch.save(
        state | {first: torch.ones(len(state[first]), n_channels, *state[first].shape[2:])}, path := tmp_path / "x.pth"
    )
    with pytest.raises(WeightsMismatchError, match=f"expects images of {message}"):
        resolve_backbone(backbone, path, None, 0).build()


def test_weights_for_one_channel_that_are_repeated_and_divided_give_the_features_of_gray_images(tmp_path):
    """As the error says: three equal channels must add up to the single channel."""
    torch.manual_seed(0)
    one = timm.create_model("test_resnet", num_classes=0, in_chans=1).eval()
    gray = torch.randn(4, 1, 64, 64)
    state = one.state_dict()
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    state[name] = state[name].repeat(1, 3, 1, 1) / 3
    torch.save(state, path := tmp_path / "x.pth")
    with torch.no_grad():
        found = resolve_backbone(NETWORK, path, 64, 0).build()(gray.expand(-1, 3, -1, -1))
        torch.testing.assert_close(found, one(gray), rtol=1e-4, atol=1e-5)


def test_tensors_in_safetensors_format_are_read_under_any_name(tmp_path):
    state = {"a": torch.ones(2)}
    (tmp_path / "model.bin").write_bytes(safetensors.torch.save(state))
    assert torch.equal(read_state_dict(tmp_path / "model.bin")["a"], state["a"])


@pytest.mark.parametrize(
    "weights", [{"a": torch.ones(1000)}, b"x" * 1000, io.BytesIO(), nn.Linear(2, 2), 3, object(), ["default"] * 400]
)
def test_weights_of_another_type_are_named_by_it_alone(weights):
    with pytest.raises(InvalidParameterError, match=rf"^weights is {type_of(weights)}\. (Pass|Write)") as caught:
        PretrainedImageClassifier(weights=weights).fit(np.zeros((4, 8, 8)), [0, 1] * 2)
    assert len(str(caught.value)) < 200


# ----------------------------------------------------------------------------------------------------- sktl's own files


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), np.uint8)
    parameters = {"backbone": NETWORK, "weights": None, "image_size": 64, "max_epochs": 1, "random_state": 0}
    with pytest.warns(match="weights=None"):
        return PretrainedImageClassifier(**parameters, trainable_stages=1).fit(X, [0, 1] * 4)


@pytest.mark.parametrize("form", ["module_", "saved", "skorch", "bytes of another name"])
def test_what_sktl_trained_is_given_as_weights(tmp_path, fitted, form):
    path = tmp_path / ("x.sktl" if form == "saved" else "x.pth")
    if form == "module_":
        torch.save(fitted.module_.state_dict(), path)
    elif form == "skorch":
        fitted.net_.save_params(f_params=path)
    else:
        fitted.save(saved := tmp_path / "x.sktl")
        saved.rename(path)
    found = resolve_backbone(NETWORK, path, 64, 0).build().state_dict()
    expected = fitted.module_.backbone.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_saved_model_is_checked_before_its_network_is_taken(tmp_path, fitted):
    fitted.save(path := tmp_path / "x.sktl")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        WeightsCorruptError, match=r"weights='.*x\.sktl' is damaged, or not an sktl model: its checksum"
    ):
        read_state_dict(path)
    fitted.save(path, include_backbone=False)
    with pytest.raises(
        WeightsCorruptError, match=r"saved by sktl without the network\. .*sktl\.load\(path\).*include_b"
    ):
        read_state_dict(path)


def test_a_saved_model_of_another_network_is_refused(tmp_path, fitted):
    fitted.save(path := tmp_path / "x.sktl")
    with pytest.raises(WeightsMismatchError, match="another architecture"):
        resolve_backbone("squeezenet1_1", path, None, 0).build()


@pytest.mark.parametrize("name", ["own.sktl", "model.onnx", "Model.H5", "weights.pkl"])
@pytest.mark.parametrize("backbone", [NETWORK, "squeezenet1_1", "efficientnet_lite0"])
def test_the_name_of_a_file_that_is_not_there_is_taken_for_a_file(backbone, name):
    with pytest.raises(WeightsError, match=rf"weights='{name}': there is no such file"):
        resolve_backbone(backbone, name, None, 0)
