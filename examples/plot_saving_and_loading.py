"""
Saving, sending and loading a model
===================================

Save a fitted model to one file and load it on another machine, without the training images or the internet. If both
processors are of the same kind, predictions are identical bit for bit. The file is not a pickle: no code in it is run,
and damaged files raise an error::

    python examples/plot_saving_and_loading.py [FOLDER]

FOLDER has one subfolder per class. You can also set it in the environment variable ``SKTL_DATA``. Without it, the
example uses images that come with scikit-learn.
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
# Fit two models: the first trains only the output layer, and the second also trains the last stage.

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
# A file with the whole network needs nothing else. ``include_backbone=False`` stores only what training changed, for a
# machine that has the same pretrained weights.

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
# In a fresh process, as on a server, load the model once and predict often.

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
# A byte that was damaged in transit is detected before the model is used.

path = place / "last stage, difference.sktl"
content = bytearray(path.read_bytes())
content[len(content) // 2] ^= 1
path.write_bytes(content)
try:
    sktl.load(path)
except ModelFileError as error:
    print(type(error).__name__, "-", str(error).replace(str(place), "..."))

# %%
# Compare file sizes. A model with only a trained output layer is small enough for an email.

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
