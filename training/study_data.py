"""Write the folders of labelled images that the study of deep transformers trains on.

python training/study_data.py digits OUT
python training/study_data.py pneumonia OUT --from trainval.npz

The digits are those of scikit-learn (UCI optical recognition, CC BY 4.0), 8 x 8 pixels, divided
70 to 30 by class; the X-rays are PneumoniaMNIST's training and validation parts (CC BY 4.0).
OUT/train and OUT/test hold a folder a class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

Images = NDArray[np.uint8]


def digits() -> dict[str, tuple[Images, list[str]]]:
    """Return scikit-learn's digits, 1257 for training and 540 for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    parts = train_test_split(
        images, data.target, test_size=0.3, stratify=data.target, random_state=0
    )
    train, test, train_labels, test_labels = parts
    return {
        "train": (train, [str(one) for one in train_labels]),
        "test": (test, [str(one) for one in test_labels]),
    }


def pneumonia(path: Path) -> dict[str, tuple[Images, list[str]]]:
    """Return PneumoniaMNIST's training and validation parts from its npz file."""
    names = ("normal", "pneumonia")
    with np.load(path, allow_pickle=False) as data:
        return {
            part: (data[f"{given}_images"], [names[int(one)] for one in data[f"{given}_labels"]])
            for part, given in (("train", "train"), ("test", "val"))
        }


def main() -> None:
    """Write one of the folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("digits", "pneumonia"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", dest="source", type=Path, help="the npz file of PneumoniaMNIST")
    given = parser.parse_args()
    if given.which == "pneumonia" and given.source is None:
        parser.error("pneumonia needs --from with the path of its npz file")
    found = digits() if given.which == "digits" else pneumonia(given.source)
    for part, (images, labels) in found.items():
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            folder = given.out / part / label
            folder.mkdir(parents=True, exist_ok=True)
            Picture.fromarray(pixels).save(folder / f"{number:05}.png")
        print(f"{given.out / part}: {len(images)} images")


if __name__ == "__main__":
    main()
