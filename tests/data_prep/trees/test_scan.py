"""What counts as an image tree, and the faults of names, links and folders."""

import os
import shutil

import pytest
from picture_tree import jpeg, make_tree

from data_prep import DataError
from data_prep.formats.file_names import name_fault, printable
from data_prep.trees.scan import walk_tree, walk_trees


@pytest.fixture
def root(tmp_path):
    return make_tree(tmp_path / "photos")


def refused(root, *words: str, **options) -> None:
    with pytest.raises(DataError) as error:
        walk_trees(root, **options)
    text = str(error.value)
    assert text.isprintable() and all(word in text for word in words), text


def test_classes_labels_and_files_are_sorted(root):
    (root / "train" / "bee" / "10.JPEG").write_bytes(b"12345")
    tree = walk_trees(root)["train"]
    assert tree.classes == ("ant", "bee", "cow") and tree.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert [path.decode() for path in tree.paths[3:7]] == [f"train/bee/{name}.JPEG" for name in (0, 1, 10, 2)]
    assert tree.bytes[5] == 5 and tree.notes == ()
    assert all((root / path.decode()).stat().st_size == size for path, size in zip(tree.paths, tree.bytes, strict=True))


def test_a_class_comes_before_the_longer_name_that_begins_with_it(tmp_path):
    make_tree(tmp_path, classes=("a", "a-b", "a.b"))
    assert walk_trees(tmp_path)["train"].labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3


def test_the_order_is_that_of_bytes_as_in_sorted_text(tmp_path):
    make_tree(tmp_path, classes=("Z", "a", "é", "日"))
    assert walk_trees(tmp_path)["validation"].classes == tuple(sorted(["Z", "a", "é", "日"]))


def test_val_is_taken_when_there_is_no_validation(tmp_path):
    make_tree(tmp_path, folders=("train", "val"))
    assert walk_trees(tmp_path)["validation"].paths[0] == b"val/ant/0.JPEG"
    shutil.copytree(tmp_path / "val", tmp_path / "validation")
    tree = walk_trees(tmp_path)["validation"]
    assert tree.paths[0] == b"validation/ant/0.JPEG" and "passed over" in tree.notes[0] and "val" in tree.notes[0]


def test_a_missing_split_is_named(tmp_path, root):
    shutil.rmtree(root / "validation")
    refused(root, str(root), "no folder validation or val")
    refused(tmp_path / "nowhere", "there is no such folder")


def test_a_flat_folder_is_no_tree(root):
    shutil.rmtree(root / "validation")
    (root / "validation").mkdir()
    (root / "validation" / "ILSVRC2012_val_00000001.JPEG").write_bytes(jpeg())
    refused(root, "validation: no class folders")


def test_empty_class_folder(root):
    (root / "train" / "dog").mkdir()
    refused(root, "train/dog: a class without images")
    (root / "train" / "dog" / ".hidden.JPEG").write_bytes(jpeg())
    refused(root, "train/dog: a class without images")


@pytest.mark.parametrize(
    "change, words",
    [
        ("missing", ["1 only in train (bee)"]),
        ("extra", ["1 only in validation (dog)"]),
        ("both", ["1 only in train (bee)", "1 only in validation (dog)"]),
    ],
)
def test_class_lists_must_agree(root, change, words):
    if change in ("missing", "both"):
        shutil.rmtree(root / "validation" / "bee")
    if change in ("extra", "both"):
        shutil.copytree(root / "validation" / "ant", root / "validation" / "dog")
    refused(root, "class folders differ", *words)


def test_hidden_names_are_passed_over_and_told(root):
    shutil.copytree(root / "train" / "ant", root / "train" / ".ipynb_checkpoints")
    (root / "train" / "ant" / "._0.JPEG").write_bytes(b"Mac OS X")
    (root / "train" / "readme.txt").write_text("hello")
    tree = walk_trees(root)["train"]
    assert tree.classes == ("ant", "bee", "cow") and len(tree.paths) == 9
    assert tree.notes == (
        f"{root}/train: 2 hidden, passed over (train/.ipynb_checkpoints, ant/._0.JPEG)",
        f"{root}/train: 1 beside the class folders, passed over (readme.txt)",
    )


@pytest.mark.parametrize("target", ["..", ".", "../..", "loop", "../bee"])
def test_links_inside_a_class_folder_are_never_followed(root, target):
    (root / "train" / "ant" / "loop").symlink_to(target)
    for follow in (False, True):
        refused(root, "train/ant/loop", follow_links=follow)


@pytest.mark.parametrize("target", ["..", ".", "../..", "loop", "ant", "nowhere"])
def test_a_class_that_is_a_link_round_in_a_loop(root, target):
    (root / "train" / "loop").symlink_to(target)
    for follow in (False, True):
        refused(root, "train/loop: a link", target, follow_links=follow)


def test_the_same_folder_is_not_entered_twice(tmp_path, root):
    shutil.move(root / "train" / "ant", tmp_path / "elsewhere")
    for name in ("ant", "dog"):
        (root / "train" / name).symlink_to(tmp_path / "elsewhere")
    refused(root, "train/dog: a link", "twice", follow_links=True)


def test_links_to_folders_and_out_of_the_root_need_the_flag(tmp_path, root):
    shutil.move(root / "train", tmp_path / "elsewhere")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    refused(root, "a link to a folder", "--follow-links")
    tree = walk_trees(root, follow_links=True)["train"]
    assert len(tree.paths) == 9 and tree.paths[0] == b"train/ant/0.JPEG"
    shutil.move(tmp_path / "elsewhere" / "ant", tmp_path / "ant")
    (tmp_path / "elsewhere" / "ant").symlink_to(tmp_path / "ant")
    assert walk_trees(root, follow_links=True)["train"].paths == tree.paths


def test_links_to_files(tmp_path, root):
    (root / "train" / "ant" / "inside.JPEG").symlink_to(root / "train" / "ant" / "0.JPEG")
    tree = walk_tree(root, "train")
    place = tree.paths.index(b"train/ant/inside.JPEG")
    assert tree.bytes[place] == (root / "train" / "ant" / "0.JPEG").stat().st_size
    (tmp_path / "outside.JPEG").write_bytes(jpeg())
    (root / "train" / "ant" / "outside.JPEG").symlink_to(tmp_path / "outside.JPEG")
    refused(root, "outside.JPEG: a link out of the folder", "--follow-links")
    assert len(walk_tree(root, "train", follow_links=True).paths) == 11
    os.unlink(tmp_path / "outside.JPEG")
    refused(root, "leads nowhere", follow_links=True)


def test_a_folder_inside_a_class_folder_is_refused(root):
    (root / "train" / "ant" / "more").mkdir()
    refused(root, "train/ant/more: a folder inside a class folder")


def test_a_pipe_is_refused_and_not_opened(root):
    os.mkfifo(root / "train" / "ant" / "pipe.JPEG")
    refused(root, "pipe.JPEG: neither a file")


def test_file_names_need_not_be_text(root):
    name = b"\xff\xfe picture.JPEG"
    (root / "train" / "ant" / os.fsdecode(name)).write_bytes(jpeg())
    assert b"train/ant/" + name in walk_tree(root, "train").paths


@pytest.mark.parametrize(
    "name, reason",
    [
        (b"two\nlines.JPEG", "control character"),
        (b"tab\there.JPEG", "control character"),
        (b"x" * 201, "a name of 201 bytes"),
        (b"\xe6\x97\xa5" * 80, "a name of 240 bytes"),
    ],
    ids=["newline", "tab", "long", "long text"],
)
def test_names_that_are_refused(root, name, reason):
    (root / "train" / "ant" / os.fsdecode(name)).write_bytes(jpeg())
    refused(root, reason)


@pytest.mark.parametrize("name", [b"b\xffe", b"two\nlines", b"x" * 201], ids=repr)
def test_names_of_classes_must_be_short_text(root, name):
    for split in ("train", "validation"):
        shutil.copytree(root / split / "ant", root / split / os.fsdecode(name))
    refused(root, "name")


def test_names_that_differ_in_case_only_are_told(root):
    (root / "train" / "ant" / "A.jpg").write_bytes(jpeg())
    (root / "train" / "ant" / "a.JPG").write_bytes(jpeg())
    (note,) = walk_tree(root, "train").notes
    assert "2 file names differ in upper and lower case" in note and "(train/ant/A.jpg, train/ant/a.JPG)" in note


@pytest.mark.parametrize(("classes", "words"), [
    (("0", "1", "10", "2"), ["label 2 is class 10, not 2", "as text, not as numbers"]),
    (("fold1", "fold10", "fold2"), ["label 1 is class fold10, not fold2"]),
    (("Dog", "cat", "dog"), ["1 pair of classes differs in upper and lower case only (Dog and dog)"]),
    (("caf\u00e9", "cafe\u0301"), ["a class is there in 2 Unicode forms ('cafe\\u0301' and 'caf\\xe9')"]),
])  # fmt: skip
def test_class_names_that_may_mislead_are_told_once(tmp_path, classes, words):
    make_tree(tmp_path, classes=classes)
    trees = walk_trees(tmp_path)
    (note,) = [note for tree in trees.values() for note in tree.notes]
    assert note.startswith(f"{tmp_path}: ") and all(word in note for word in words), note


@pytest.mark.parametrize(
    "classes", [("00", "01", "02", "10"), ("n01440764", "n02102040"), ("a-2", "b-1"), ("a-b", "a1"), ("0", "1", "٢")]
)
def test_class_names_in_the_order_of_their_numbers_need_no_note(tmp_path, classes):
    make_tree(tmp_path, classes=classes)
    assert all(tree.notes == () for tree in walk_trees(tmp_path).values())


def test_a_class_in_another_unicode_form_in_the_other_split(tmp_path):
    make_tree(tmp_path, classes=("ant", "caf\u00e9"))
    (tmp_path / "validation" / "caf\u00e9").rename(tmp_path / "validation" / "cafe\u0301")
    refused(tmp_path, "'caf\\xe9' and 'cafe\\u0301' differ in upper and lower case or in the Unicode form only")


def test_files_in_two_unicode_forms_are_told(root):
    for name in ("\u00e9.jpg", "e\u0301.jpg"):
        (root / "train" / "ant" / name).write_bytes(jpeg())
    (note,) = walk_tree(root, "train").notes
    assert "2 file names differ in upper and lower case or in the Unicode form only" in note


def test_several_bad_class_names_are_told_in_one_call(root):
    names = ["a\nb", "c\td", "e\udcff", "x" * 201]
    for name in names[:3]:
        shutil.copytree(root / "train" / "ant", root / "train" / name)
    shutil.copytree(root / "validation" / "ant", root / "validation" / names[3])
    words = ["4 names cannot be used", "train/a\\nb: a control", "train/c\\td: a control", "train/e\\xff: the name"]
    refused(root, *words, "a name of 201 bytes")


def test_several_empty_classes_are_told_in_one_call(root):
    for name in ("dog", "elk"):
        (root / "train" / name).mkdir()
    refused(root, f"{root}/train/dog, {root}/train/elk: 2 classes without images")


def test_a_folder_that_may_not_be_read(root):
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    (root / "train" / "bee").chmod(0)
    try:
        refused(root, "train/bee: cannot be listed (Permission denied)")
    finally:
        (root / "train" / "bee").chmod(0o755)


@pytest.mark.parametrize(
    "name, shown",
    [(b"plain.JPEG", "plain.JPEG"), (b"\xff.JPEG", "\\xff.JPEG"), (b"a\nb\tc", "a\\nb\\tc"), ("é日".encode(), "é日")],
)
def test_printable(name, shown):
    assert printable(name) == shown == printable(os.fsdecode(name))


def test_a_name_of_200_bytes_is_fine():
    assert name_fault(b"x" * 200) == ""
