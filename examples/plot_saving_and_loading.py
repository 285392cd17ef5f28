"""
Saving, sending and loading a model
===================================

A fitted model becomes one file, which another machine loads without the training images or the internet, and which
predicts the same bits there if its processor is of the same kind. The file is no pickle: nothing in it is run, and what
is damaged is refused::

    python examples/plot_saving_and_loading.py [FOLDER]

FOLDER has one sub-folder per class; the environment variable ``SKTL_DATA`` can name it, too. Without it, images come
with scikit-learn.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import sktl
from sktl.datasets import load_image_folder
from sktl.exceptions import ModelFileError

# %%
# Fit two models: one with the output layer trained, one with the last stage, too.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    order = np.random.default_rng(0).permutation(len(photos.target))[:120]
    images, labels = [photos.data[i] for i in order], photos.target[order]
else:
    digits = load_digits()
    images, labels = list(digits.images[:120] / 16), digits.target[:120]
common = {"image_size": None if folder else 64, "random_state": 0}
output_layer = sktl.PretrainedImageClassifier(**common).fit(images, labels)
last_stage = sktl.PretrainedImageClassifier(trainable_stages=1, augmentation=None, max_epochs=2, **common)
last_stage.fit(images, labels)

# %%
# The whole network makes a file that needs nothing else. ``include_backbone=False`` leaves out what training did not
# change, for a machine that has the same pretrained weights: then it is the difference that is stored.

place = Path(tempfile.mkdtemp())
sizes = {}
for name, model in (("output layer", output_layer), ("last stage", last_stage)):
    for whole in (True, False):
        path = place / f"{name}, {'whole' if whole else 'difference'}.sktl"
        model.save(path, include_backbone=whole)
        sizes[path.stem] = path.stat().st_size / 1e6
        same = np.array_equal(sktl.load(path).predict_proba(images), model.predict_proba(images))
        print(f"{path.stem:28s}{sizes[path.stem]:8.3f} MB, the loaded one predicts the same bits: {same}")

# %%
# In a fresh process, as on a server: load once, predict often.

np.save(place / "some.npy", np.asarray(images[:3]))
program = """
import sys, numpy as np, sktl
clf = sktl.load(sys.argv[1], device="cpu")
images = np.load(sys.argv[2])
print("another process says", clf.predict(list(images)))
"""
arguments = [str(place / "output layer, whole.sktl"), str(place / "some.npy")]
print(subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True).stdout)

# %%
# A byte that fell over on the way is noticed before anything is used.

path = place / "last stage, difference.sktl"
content = bytearray(path.read_bytes())
content[len(content) // 2] ^= 1
path.write_bytes(content)
try:
    sktl.load(path)
except ModelFileError as error:
    print(type(error).__name__, "-", str(error).replace(str(place), "..."))

# %%
# What a file takes. A model that only learned an output layer travels in a message.

figure, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
bars = ax.barh(list(sizes), list(sizes.values()), color="#0072b2")
ax.bar_label(bars, [f" {size:.2f} MB" for size in sizes.values()])
ax.set_xscale("log")
ax.set_xlim(right=20 * max(sizes.values()))
ax.invert_yaxis()
ax.set_xlabel("size of the file (MB, on a logarithmic scale)")
ax.set_title("What is stored")
figure.savefig("saving_and_loading.png", dpi=120)
print("sizes drawn in saving_and_loading.png")
