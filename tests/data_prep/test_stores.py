"""Image trees in an object store: indexed, checked and copied there with the bytes of a folder; stores that refuse."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from io import BytesIO
from itertools import count
from pathlib import Path
from unittest.mock import ANY

import fsspec
import pytest
from picture_tree import jpeg, make_tree, tree_hash
from PIL import Image
from refusals import refused, training_refused

from data_prep import DataError
from data_prep.__main__ import main
from data_prep.files import LOCK, MANIFEST, PARTIAL
from data_prep.trees.adopt import BAD_FILES, adopt
from data_prep.trees.check import check_dataset
from data_prep.trees.index_crops import index_crops
from data_prep.trees.pack import pack_tree
from data_prep.trees.resize import resize_tree
from data_prep.trees.shrink import Rule

NUMBERS = count()
REPOSITORY = Path(__file__).parents[2]
SIZES = ["--sizes", "8", "16"]
needs_jpegtran = pytest.mark.skipif(not shutil.which("jpegtran"), reason="jpegtran (libjpeg-turbo-progs) is missing")


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "photos")


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(tree):
    """The tree in fsspec's memory, and its address."""
    url = f"memory://bucket{next(NUMBERS)}/photos"
    put(fsspec.filesystem("memory"), tree, url)
    return url


def put(files, tree: Path, url: str) -> None:
    for path in tree.rglob("*"):
        if path.is_file():
            files.pipe_file(f"{url}/{path.relative_to(tree)}", path.read_bytes())


def content(url: str, name: str) -> bytes:
    return fsspec.filesystem(url.partition("://")[0]).cat_file(f"{url}/{name}")


def test_a_tree_in_a_store_has_the_index_and_the_copies_of_a_folder(tree, store, tmp_path, capsys):
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{store}/train/ant/.hidden", b"")
    late = BytesIO()
    Image.new("RGB", (90, 90)).save(late, "JPEG", comment=bytes(2**15))  # its size comes after that
    files.pipe_file(f"{store}/train/ant/late.JPEG", late.getvalue())
    (tree / "train" / "ant" / "late.JPEG").write_bytes(late.getvalue())
    assert main(["adopt", store]) == 0
    assert f"photos is in place at {store}: 10 train + 6 validation images" in capsys.readouterr().out
    adopt(tree)
    for name in (MANIFEST, "train.index.npz", "validation.index.npz"):
        assert content(store, name) == (tree / name).read_bytes()
    assert main(["adopt", store]) == 0  # nothing to do

    assert main(["resize", store, *SIZES, "--to", str(tmp_path / "out" / "photos")]) == 0
    resize_tree(tree, [8, 16])
    assert tree_hash(tmp_path / "out" / "photos-sz") == tree_hash(Path(f"{tree}-sz"))


def test_what_is_made_is_not_read_again(store, tmp_path, monkeypatch):
    adopt(store)
    manifests = resize_tree(store, [8], to=tmp_path / "photos")
    lost = tmp_path / "photos-sz" / "8" / "train" / "bee" / "1.JPEG"
    data = lost.read_bytes()
    lost.unlink()
    for name in ("train/ant/0.JPEG", "validation/cow/0.JPEG"):
        fsspec.filesystem("memory").rm_file(f"{store}/{name}")  # would be missed
    assert resize_tree(store, [8], to=tmp_path / "photos") == manifests
    assert lost.read_bytes() == data


def objects(url: str) -> dict[str, bytes]:
    return objects_of(fsspec.filesystem(url.partition("://")[0]), url)


def objects_of(files, url: str) -> dict[str, bytes]:  # by the rest of the address
    below = url.partition("://")[2].strip("/")
    return {name.strip("/").removeprefix(f"{below}/"): files.cat_file(name) for name in files.find(url)}


def on_disk(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_copies_in_a_store_have_the_bytes_of_a_folder(tree, store, capsys):
    """Beside the originals, and from a disk."""
    adopt(store)
    adopt(tree)
    resize_tree(tree, [8, 16])
    assert main(["resize", store, *SIZES]) == 0
    assert f"photos is in place at {store}-sz/16: 9 train" in capsys.readouterr().out
    assert objects(f"{store}-sz") == on_disk(Path(f"{tree}-sz"))
    assert main(["resize", str(tree), *SIZES, "--to", f"{store}2/"]) == 0
    assert objects(f"{store}2-sz") == on_disk(Path(f"{tree}-sz"))
    fsspec.filesystem("memory").rm_file(f"{store}/train/ant/0.JPEG")  # would be missed
    assert main(["resize", store, *SIZES]) == 0
    lost = f"{store}-sz/8/validation/bee/0.JPEG"
    fsspec.filesystem("memory").rm_file(lost)
    assert main(["resize", store, *SIZES]) == 0
    assert objects(f"{store}-sz") == on_disk(Path(f"{tree}-sz"))


class Interrupted:
    """An engine that breaks off."""

    def __init__(self, after: int) -> None:
        self.after, self.items = after, 0

    def map(self, function, items, chunk):
        for item in items:
            if self.items == self.after:
                raise KeyboardInterrupt
            self.items += 1
            yield function(item)


def test_copies_in_a_store_go_on_where_they_were_interrupted(tree, store, tmp_path, monkeypatch):
    """On another machine they are made again, by the same rule alone."""
    adopt(store)
    with pytest.raises(KeyboardInterrupt):
        resize_tree(store, [8], Interrupted(5))
    assert f"{PARTIAL}/rule.json" in objects(f"{store}-sz/8") and MANIFEST not in objects(f"{store}-sz/8")
    rest = Interrupted(99)
    resize_tree(store, [8], rest)
    assert rest.items == 10
    adopt(tree)
    resize_tree(tree, [8])
    assert objects(f"{store}-sz") == on_disk(Path(f"{tree}-sz"))

    with pytest.raises(KeyboardInterrupt):
        resize_tree(store, [16], Interrupted(5))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=f"^{store}-sz/16: was begun with"):
        resize_tree(store, [16], rule=Rule(quality=80))
    anew = Interrupted(99)
    assert resize_tree(store, [8], anew) and anew.items == 0
    assert resize_tree(store, [16], anew) and anew.items == 15
    resize_tree(tree, [16])
    assert objects(f"{store}-sz") == on_disk(Path(f"{tree}-sz"))


def test_a_manifest_that_did_not_come_into_the_store_is_put_there(store, monkeypatch):
    """Killed between the last picture and the manifest."""
    adopt(store)
    memory = type(fsspec.filesystem("memory"))
    pipe_file = memory.pipe_file

    def interrupted(files, path, data):
        if path.endswith(MANIFEST):
            raise KeyboardInterrupt
        pipe_file(files, path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(memory, "pipe_file", interrupted)
        resize_tree(store, [8])
    assert MANIFEST not in objects(f"{store}-sz/8")
    again = Interrupted(0)
    assert resize_tree(store, [8], again) and again.items == 0
    found = objects(f"{store}-sz/8")
    assert MANIFEST in found and f"{PARTIAL}/rule.json" not in found


def test_copies_that_were_deleted_in_the_store_are_begun_anew(tree, store):
    """By another rule, whether they were whole or not."""
    adopt(store)
    adopt(tree)
    resize_tree(tree, [8], rule=Rule(quality=80))
    files = fsspec.filesystem("memory")
    for engine in (Interrupted(99), Interrupted(5)):
        with suppress(KeyboardInterrupt):
            resize_tree(store, [8], engine)
        with pytest.raises(DataError, match=r"of another kind|was begun with"):
            resize_tree(store, [8], rule=Rule(quality=80))
        files.rm(f"{store}-sz", recursive=True)
        assert resize_tree(store, [8], rule=Rule(quality=80))
        assert objects(f"{store}-sz") == on_disk(Path(f"{tree}-sz"))
        files.rm(f"{store}-sz", recursive=True)


def test_copies_that_a_store_cannot_take_are_refused(store, capsys):
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{store}/train/bee/broken.JPEG", jpeg(64, 48)[:-200])
    adopt(store)
    capsys.readouterr()
    line = refused(capsys, main, ["resize", store, *SIZES, "--shard", "1/2"])
    assert "shards share a disk" in line and "--engine ray" in line
    assert main(["resize", store, "--sizes", "8"]) == 2
    assert f"all listed in {store}-sz/8/bad_files.tsv" in capsys.readouterr().err
    assert b"broken.JPEG" in content(f"{store}-sz/8", BAD_FILES)
    files.pipe_file(f"{store}-sz/12/notes.txt", b"mine")
    line = refused(capsys, main, ["resize", store, "--sizes", "12"])
    assert f"{store}-sz/12: is there already and is no copy" in line
    assert main(["resize", store, "--sizes", "8", "--skip-bad"]) == 0
    assert BAD_FILES not in objects(f"{store}-sz/8")
    files.pipe_file(f"{store}-sz/8/train/bee/mine.JPEG", b"mine")
    files.rm_file(f"{store}-sz/8/train/bee/1.JPEG")
    assert main(["resize", store, "--sizes", "8"]) == 2
    assert f"{store}-sz/8/train/bee/mine.JPEG: does not belong" in capsys.readouterr().err


@needs_jpegtran
def test_files_for_cutting_in_a_store_have_the_bytes_of_a_folder(tree, store, capsys):
    files = fsspec.filesystem("memory")
    (tree / "train" / "ant" / "large.JPEG").write_bytes(jpeg(300, 200))
    (tree / "train" / "ant" / "other.JPEG").write_bytes(jpeg(30, 20, kind="PNG"))
    put(files, tree, store)
    adopt(store)
    adopt(tree)
    with pytest.raises(KeyboardInterrupt):
        index_crops(store, Interrupted(5))
    assert main(["index-crops", store]) == 0
    told = capsys.readouterr().out
    assert f"{store}-crops: 16 of 17 images can be cut" in told and f"in place at {store}-crops: 11 train" in told
    index_crops(tree)
    assert objects(f"{store}-crops") == on_disk(Path(f"{tree}-crops"))
    files.rm_file(f"{store}/train/ant/0.JPEG")  # would be missed
    for lost in ("train/bee/0.JPEG", "train.segments.npy"):
        files.rm_file(f"{store}-crops/{lost}")
        assert main(["index-crops", store]) == 0
        assert objects(f"{store}-crops") == on_disk(Path(f"{tree}-crops"))


def test_a_check_of_a_store_finds_and_mends_what_it_does_in_a_folder(tree, store, capsys):
    files = fsspec.filesystem("memory")
    for root in (store, tree):
        adopt(root)
        resize_tree(root, [8])
    before = objects(store)
    assert main(["check", f"{store}/"]) == 0 and objects(store) == before
    assert f"{store}: all well, 1 copies agree" in capsys.readouterr().out

    (tree / "train" / "bee" / "1.JPEG").write_bytes(bytes((tree / "train" / "bee" / "1.JPEG").stat().st_size))
    (tree / "train" / "ant" / "new.JPEG").write_bytes(b"no picture")
    put(files, tree / "train", f"{store}/train")
    (tree / "train" / "ant" / "0.JPEG").unlink()
    files.rm_file(f"{store}/train/ant/0.JPEG")
    assert main(["check", store]) == 1 and not check_dataset(tree)
    assert f"BAD {store}/train/bee/1.JPEG: " in capsys.readouterr().out
    assert content(store, BAD_FILES) == (tree / BAD_FILES).read_bytes()
    assert main(["check", store, "--write", "--skip-bad"]) == 0 and check_dataset(tree, write=True, skip_bad=True)
    assert all(objects(f"{store}{end}") == on_disk(Path(f"{tree}{end}")) for end in ("", "-sz"))
    assert main(["check", store]) == 0


def test_a_check_of_a_store_tells_what_is_not_whole_or_damaged(tree, store, monkeypatch, capsys):
    files = fsspec.filesystem("memory")
    adopt(tree)
    pack_tree(tree)
    put(files, tree, store)
    with pytest.raises(KeyboardInterrupt):
        resize_tree(store, [8], Interrupted(5))
    assert main(["check", store]) == 1
    assert f"BAD {store}-sz/8: is not whole" in capsys.readouterr().out
    pixels = content(store, "train.pixels.bin")
    files.pipe_file(f"{store}/train.pixels.bin", pixels[:-1] + bytes([pixels[-1] ^ 1]))
    files.pipe_file(f"{store}/train/bee/1.JPEG", b"no picture")

    def refused_write(*_):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(files), "pipe_file", refused_write)
    assert main(["check", store]) == 1
    out, err = capsys.readouterr()
    assert f"BAD {store}/train.pixels.bin: SHA-256 differs" in out and f"BAD {store}/train/bee/1.JPEG" in out
    assert f"note: {store}/bad_files.tsv: Access Denied. Check AWS_ACCESS_KEY_ID" in err


def test_an_object_that_changed_is_named_and_bad_ones_leave_the_index_of_the_store(store, tmp_path, capsys):
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{store}/train/bee/broken.JPEG", b"no picture")
    assert main(["adopt", store]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {store}: 1 bad files, all listed in {store}/bad_files.tsv" in line
    assert b"broken.JPEG" in content(store, BAD_FILES) and not files.exists(f"{store}/{MANIFEST}")
    files.pipe_file(f"{store}/train/bee/broken.JPEG", jpeg(64, 48)[:-200])  # only decoding it tells
    adopt(store)
    to = ["--to", str(tmp_path / "photos")]
    assert main(["resize", store, *SIZES, *to]) == 2
    assert main(["resize", store, *SIZES, *to, "--skip-bad"]) == 0
    assert b"broken.JPEG" in content(store, BAD_FILES)

    files.pipe_file(f"{store}/train/ant/0.JPEG", jpeg(77, 55))
    with pytest.raises(DataError, match=f"{store}/train/ant/0.JPEG has .* python -m data_prep adopt {store}"):
        resize_tree(store, [12], to=tmp_path / "photos")
    with pytest.raises(DataError, match=f"^{store}: changed since it was indexed: 1 another size"):
        adopt(store)
    assert adopt(store, again=True).splits["train"].images == 10


def test_addresses_that_are_refused(tree, store, tmp_path, capsys):
    adopt(tree)
    capsys.readouterr()
    line = refused(capsys, main, ["resize", str(tree), *SIZES, "--to", "memory://bucket"])
    assert "memory://bucket: copies would lie in another bucket" in line
    assert "copies would lie in another bucket" in refused(capsys, main, ["index-crops", "memory://bucket"])
    assert "s3://bucket/out is no folder" in refused(capsys, main, ["pack", "s3://bucket/out"])
    assert f"no dataset at {store}: manifest.json is missing" in refused(
        capsys, main, ["resize", store, *SIZES, "--to", str(tmp_path / "new")]
    )
    nowhere = "memory://nowhere/photos"
    assert f"{nowhere}: there is no such folder" in refused(capsys, main, ["adopt", nowhere])
    assert "give s3://BUCKET/FOLDER" in refused(capsys, main, ["adopt", "ftp://bucket/photos"])
    assert not (tmp_path / "new-sz").exists()
    training_refused(capsys, ["s3://bucket/photos", "--recipe", "toy"], "s3://bucket/photos", "data_prep resize")


def test_without_s3fs_the_line_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    options = {"adopt": [], "check": [], "index-crops": [], "resize": [*SIZES, "--to", str(tmp_path)]}
    for name in options:
        line = refused(capsys, main, [name, "s3://bucket/photos", *options[name]])
        assert "s3fs is not installed" in line and "pip install" in line


KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
WITHOUT_KEYS = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
needs_s3 = pytest.mark.skipif(
    not (find_spec("moto") and find_spec("s3fs")), reason="needs moto and s3fs: make test-engines"
)
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="needs ray: make test-engines")
on_both_engines = pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=needs_ray)])


@pytest.fixture(scope="module")
def server():
    with s3_server() as environment:
        yield environment


@contextmanager
def s3_server(**settings: str):
    """The environment for commands that find a local S3 server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    running = subprocess.Popen(
        line, env=clean_environment() | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port)), timeout=10).close()
                break
            except OSError:
                assert running.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        yield clean_environment() | KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    finally:
        running.kill()
        running.wait()


def clean_environment() -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return others | WITHOUT_KEYS | {"RAY_ADDRESS": "local"}


@pytest.fixture
def bucket(server, tree):
    """The tree in a new bucket of the server, and its address."""
    import s3fs

    files = s3fs.S3FileSystem(
        endpoint_url=server["AWS_ENDPOINT_URL"], key="testing", secret="testing", use_listings_cache=False
    )
    name = f"bucket{next(NUMBERS)}"
    files.mkdir(name)
    for number in range(60):
        (tree / "train" / "ant" / f"more{number}.JPEG").write_bytes(jpeg(300 + number, 200, seed=number))
    large = jpeg(1500, 1100) + bytes(2**18)  # the header alone is read of it
    (tree / "train" / "ant" / "a name with blanks and \u00e4.JPEG").write_bytes(large)
    put(files, tree, f"s3://{name}/photos")
    return files, f"s3://{name}/photos"


def command(environment: dict[str, str], *arguments: object) -> tuple[int, str]:
    """Exit code and standard error."""
    line = [sys.executable, "-m", "data_prep", *map(str, arguments)]
    done = subprocess.run(line, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


@needs_s3
@pytest.mark.slow
@on_both_engines
def test_a_bucket_gives_the_bytes_of_a_folder(engine, server, bucket, tree, tmp_path):
    files, url = bucket
    (tree / "train" / "ant" / "empty.JPEG").write_bytes(b"")
    files.pipe_file(f"{url}/train/ant/empty.JPEG", b"")
    assert command(server, "adopt", url, "--workers", 2, "--skip-bad") == (0, ANY)
    adopt(tree, skip_bad=True)
    assert files.cat_file(f"{url}/{BAD_FILES}") == (tree / BAD_FILES).read_bytes()
    for name in (MANIFEST, "train.index.npz", "validation.index.npz"):
        assert files.cat_file(f"{url}/{name}") == (tree / name).read_bytes()
    to = tmp_path / "out"
    assert command(server, "resize", url, *SIZES, "--to", to, "--engine", engine, "--workers", 2) == (0, ANY)
    resize_tree(tree, [8, 16])
    assert tree_hash(Path(f"{to}-sz")) == tree_hash(Path(f"{tree}-sz"))
    here = server | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert command(here, "resize", url, *SIZES, "--engine", engine, "--workers", 2) == (0, ANY)
    assert objects_of(files, f"{url}-sz") == on_disk(Path(f"{tree}-sz"))


@needs_s3
@needs_jpegtran
@pytest.mark.slow
@on_both_engines
def test_files_for_cutting_and_a_check_in_a_bucket(engine, server, bucket, tree, tmp_path):
    files, url = bucket
    here, options = server | {"XDG_CACHE_HOME": str(tmp_path)}, ("--engine", engine, "--workers", 2)
    assert command(server, "adopt", url) == (0, ANY)
    assert command(here, "index-crops", url, *options) == (0, ANY)
    adopt(tree)
    index_crops(tree)
    assert objects_of(files, f"{url}-crops") == on_disk(Path(f"{tree}-crops"))
    assert command(server, "check", url, *options) == (0, ANY)
    for root in (url, f"{url}-crops"):
        files.pipe_file(f"{root}/train/bee/1.JPEG", jpeg(64, 48)[:-200])
    files.pipe_file(f"{url}-crops/train.segments.npy", b"damaged")
    assert command(server, "check", url, *options) == (1, ANY)
    assert all(b"bee/1.JPEG" in files.cat_file(f"{root}/{BAD_FILES}") for root in (url, f"{url}-crops"))


@needs_s3
@pytest.mark.slow
@pytest.mark.parametrize("to", ["disk", "bucket"])
def test_a_killed_resize_goes_on(server, bucket, tree, tmp_path, to):
    files, url = bucket
    assert command(server, "adopt", url) == (0, ANY)
    target = str(tmp_path / "out") if to == "disk" else f"{url}2"
    line = [sys.executable, "-m", "data_prep", "resize", url, *SIZES, "--to", target, "--workers", "2"]
    here = server | {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def copies() -> dict[str, bytes]:
        return on_disk(Path(f"{target}-sz")) if to == "disk" else objects_of(files, f"{target}-sz")

    def names() -> list[str]:  # without a look into files that come and go
        return list(map(str, Path(f"{target}-sz").rglob("*"))) if to == "disk" else files.find(f"{target}-sz")

    running = subprocess.Popen(line, cwd=REPOSITORY, env=here, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while sum(name.endswith(".JPEG") for name in names()) < 5:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    running.kill()
    running.wait()
    assert not any(name.endswith(MANIFEST) for name in copies())
    assert command(here, *line[3:]) == (0, ANY)
    adopt(tree)
    resize_tree(tree, [8, 16])
    assert copies() == on_disk(Path(f"{tree}-sz"))


@needs_s3
@pytest.mark.slow
def test_a_store_that_refuses_ends_in_one_line(server, bucket, tmp_path):
    _, url = bucket
    without_keys = clean_environment() | {"AWS_ENDPOINT_URL": server["AWS_ENDPOINT_URL"]}
    nobody = server | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="0") as strict:  # who is nobody may do nothing
        for environment, address, words in (
            (without_keys, url, "AWS_ACCESS_KEY_ID"),
            (strict, url, "AWS_ACCESS_KEY_ID"),
            (nobody, url, "AWS_ENDPOINT_URL"),
            (server, "s3://there-is-none/photos", "there is no such folder"),
        ):
            code, told = command(environment, "adopt", address)
            assert code == 2 and told.startswith(f"error: {address}") and told.count("\n") == 1 and words in told, told
            code, told = command(environment, "resize", address, *SIZES, "--to", tmp_path / "out")
            assert code == 2 and "error: " in told and address in told and told.count("\n") == 1, told
    assert not list(tmp_path.glob("out*"))
