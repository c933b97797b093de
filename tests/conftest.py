"""What several test files share: one toy dataset for the whole session, and one thread for arithmetic."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in subprocesses: tiny nets gain nothing

import pytest

from data_prep.pack import pack_tree
from data_prep.toy import prepare_toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Path of a toy dataset: 240 training and 60 validation images of 6 classes, as files, 32 px arrays and packed
    tree. Read only."""
    root = tmp_path_factory.mktemp("datasets") / "toy"
    prepare_toy(root, images=240)
    pack_tree(root)
    return root
