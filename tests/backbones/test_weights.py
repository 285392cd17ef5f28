"""Files of weights are verified, never executed, and refused with the culprit and the remedy."""

import hashlib
import os
import pickle
import re
import sys

import pytest
import safetensors.torch
import torch
from torch import nn

from sktl._backbones.weights import file_digest, load_into, match, read_state_dict, verify
from sktl.exceptions import WeightsCorruptError, WeightsError, WeightsMismatchError, WeightsNotFoundError


def small_state():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# --------------------------------------------------------------------------------------------------------------- hashes


def test_a_digest_is_the_sha256_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_a_missing_file_is_named_with_the_folder_where_it_was_sought(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsNotFoundError, match=r"weights='absent\.pth'.*no such file.*Check the path") as caught:
        read_state_dict("absent.pth")
    assert os.getcwd() in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(WeightsError, match=r"is a folder, not a file\. "):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("n_published", [8, 64])
def test_only_the_published_bytes_are_accepted(tmp_path, n_published):
    (tmp_path / "file").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    verify(tmp_path / "file", digest[:n_published])
    with pytest.raises(WeightsCorruptError, match=rf"{digest[:8]}.*{'0' * n_published}.*was published.*Delete it"):
        verify(tmp_path / "file", "0" * n_published)


def test_a_file_without_a_published_hash_is_not_read(monkeypatch):
    monkeypatch.setattr("sktl._backbones.weights.file_digest", None)
    verify("file", None)


# ---------------------------------------------------------------------------------------------------------- state dicts


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
def test_what_was_saved_is_read(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    state = small_state()
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert same(read_state_dict(path), state)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_name_that_is_not_utf8_is_read(tmp_path, suffix):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + suffix.encode())
    state = small_state()
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert same(read_state_dict(path), state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world",
        bytes(range(256)) * 16,
        "half",
    ],
    ids=["empty", "text", "binary", "truncated"],
)
def test_a_damaged_file_is_called_damaged(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    if content == "half":
        (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(small_state(), path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(WeightsCorruptError, match=r"weights='.*weights\..*' (is|was) .*(damaged|empty)") as caught:
        read_state_dict(path)
    assert not str(caught.value).rstrip().endswith(":")
    assert not re.search("run code|arbitrary code|weights_only", str(caught.value))  # torch's advice is no remedy here


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, 7, {"state_dict": {}}])
def test_a_pickle_without_tensors_is_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsCorruptError, match=r"weights\.pth' holds no tensors.*not a state dict.*torch\.save"):
        read_state_dict(tmp_path / "weights.pth")


@pytest.mark.parametrize("names", [("params", "params_ema"), ("a", "b", "c")])
@pytest.mark.parametrize("deep", [False, True])
def test_several_state_dicts_of_unknown_names_are_named(tmp_path, names, deep):
    content = {"epoch": 3} | {name: small_state() for name in names}
    torch.save({"state_dict": content} if deep else content, tmp_path / "weights.pth")
    listed = ", ".join(map(repr, names))
    with pytest.raises(WeightsMismatchError, match=rf"holds {len(names)} state dicts: {listed}\. Save one of them"):
        read_state_dict(tmp_path / "weights.pth")


@pytest.mark.parametrize("zipped", [False, True])
def test_tensors_in_a_pickle_of_another_protocol_are_read_without_a_warning(tmp_path, zipped):
    path, state = tmp_path / "weights.pth", small_state()
    torch.save(state, path, pickle_protocol=3, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path), state)


class Plants:
    """Plants a file, or a folder, when it is unpickled."""

    def __init__(self, path, function=open):
        self.path, self.function = path, function

    def __reduce__(self):
        return self.function, (str(self.path), *(["w"] if self.function is open else []))


@pytest.mark.parametrize(
    "form", ["pickle", "torch", "operating system", "beside a state dict", "whole module", "named safetensors"]
)
def test_a_pickle_that_would_run_code_is_refused_unexecuted(tmp_path, form):
    path, marker = tmp_path / "weights.pth", tmp_path / "marker"
    if form == "operating system":
        torch.save(Plants(marker, os.mkdir), path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Plants(marker)))
    elif form == "torch":
        torch.save(Plants(marker), path)
    elif form == "beside a state dict":
        torch.save({"state_dict": small_state(), "extra": Plants(marker)}, path)
    elif form == "whole module":
        torch.save(nn.Linear(2, 2), path)
    else:
        path = tmp_path / "weights.safetensors"
        path.write_bytes(pickle.dumps(Plants(marker)))
    wrong = "damaged" if form == "named safetensors" else r"would run code.*not loaded.*torch\.save"
    with pytest.raises(WeightsCorruptError, match=rf"weights='.*weights\..*{wrong}"):
        read_state_dict(path)
    assert not marker.exists()


def test_the_planted_file_would_be_there_if_the_pickle_had_run(tmp_path):
    pickle.loads(pickle.dumps(Plants(tmp_path / "marker"))).close()
    assert (tmp_path / "marker").exists()


# ------------------------------------------------------------------------------------------------------------- matching


def ignore_nothing(name):
    return False


@pytest.mark.parametrize("n_missing", [1, 5, 6, 40])
@pytest.mark.parametrize("n_unexpected", [0, 5, 9])
def test_missing_and_unexpected_names_are_listed_five_of_each(n_missing, n_unexpected):
    wanted = [f"wanted{i:02}" for i in range(n_missing)]
    state = {f"strange{i:02}": torch.zeros(1) for i in range(n_unexpected)} | {"common": torch.zeros(1)}
    with pytest.raises(WeightsMismatchError, match=r"^file holds.*another architecture.*Pass the backbone") as caught:
        match(state, [*wanted, "common"], ignore_nothing, "file")
    for prefix, n in (("wanted", n_missing), ("strange", n_unexpected)):
        assert sum(f"{prefix}{i:02}" in str(caught.value) for i in range(n)) == min(n, 5)
        assert (f"and {n - 5} more" in str(caught.value)) == (n > 5)
    assert ("unexpected: none" in str(caught.value)) == (n_unexpected == 0)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "backbone.", "net.", "module._orig_mod."])
def test_a_common_prefix_is_removed(prefix):
    state = small_state()
    renamed = {prefix + key: tensor for key, tensor in state.items()}
    assert same(match(renamed, state, ignore_nothing, "file"), state)


@pytest.mark.parametrize(
    "cut",
    [
        lambda children: nn.Sequential(*children),
        lambda children: nn.Sequential(nn.Sequential(*children), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))),
        lambda children: nn.Sequential(nn.Sequential(nn.Sequential(*children)), nn.Linear(4, 2)),
    ],
)
def test_numbers_of_children_are_their_names(cut):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.act, self.norm = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)
            self.layers = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))

    network = Network()
    names, state = network.state_dict(), cut([*network.children()]).state_dict()
    assert same(match(state, names, ignore_nothing, "file"), names)
    del state[[*state][2]]
    with pytest.raises(WeightsMismatchError, match="another architecture"):
        match(state, names, ignore_nothing, "file")
    with pytest.raises(WeightsMismatchError, match="another architecture"):
        match(cut([*network.children()]).state_dict(), [*names, "other.weight"], ignore_nothing, "file")


def test_a_prefix_that_belongs_to_the_network_stays():
    state = {"module.weight": torch.ones(1), "module.bias": torch.zeros(1)}
    assert same(match(state, state, ignore_nothing, "file"), state)
    assert same(match({f"module.{k}": t for k, t in state.items()}, state, ignore_nothing, "file"), state)


def test_only_the_output_layer_may_be_there_without_being_wanted():
    state = small_state()
    extra = state | {"head.weight": torch.ones(2)}
    assert same(match(extra, state, lambda name: name.startswith("head."), "file"), state)
    with pytest.raises(WeightsMismatchError, match=r"missing: none; unexpected: head\.weight"):
        match(extra, state, ignore_nothing, "file")


def test_wrong_shapes_are_named_and_nothing_is_loaded():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    state = {key: torch.ones_like(tensor) for key, tensor in before.items()} | {"0.weight": torch.ones(8, 3, 3, 3)}
    wrong = r"file holds.*another architecture: 0\.weight has shape \(8, 3, 3, 3\) instead of \(4, 3, 3, 3\).*Pass the"
    with pytest.raises(WeightsMismatchError, match=wrong):
        load_into(module, state, "file")
    assert same(module.state_dict(), before)
