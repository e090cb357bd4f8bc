"""The import direction: pipeline ← dedup ← dataset_builder, pipeline ← pretrain ← finetune; heavy libraries in one place each."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "pipeline": set(),
    "dedup": {"pipeline"},
    "dataset_builder": {"pipeline", "dedup"},
    "pretrain": {"pipeline"},
    "finetune": {"pipeline", "pretrain"},
}
# Each of these libraries is imported by these modules only.
HOMES = {
    "ray": {"pipeline/execute.py", "pipeline/doctor.py"},
    "nltk": {"dataset_builder/inflect.py"},
    "lemminflect": {"dataset_builder/inflect.py"},
    "faiss": {"dedup/lsh.py"},
    "numba": {"dedup/lsh.py"},
    "imagehash": {"dedup/evidence.py"},
    "av": {
        "pipeline/video.py",
        "pipeline/upload.py",
        "pipeline/stored_form.py",
        "pipeline/world/encode.py",
        "pipeline/doctor.py",
    },
}


def imported(path: Path) -> set[str]:
    """Top-level names of every import in a file, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"package {package} has no sources"
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_towards_the_spine(package):
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    wrong = {str(path.relative_to(ROOT)): imported(path) & forbidden for path in sources(package)}
    assert {path: names for path, names in wrong.items() if names} == {}


@pytest.mark.parametrize("library", HOMES)
def test_heavy_libraries_have_one_home(library):
    users = {str(p.relative_to(ROOT)) for package in MAY_IMPORT for p in sources(package) if library in imported(p)}
    assert users <= HOMES[library]


@pytest.mark.parametrize("package", ["pretrain", "finetune"])
def test_training_needs_no_ray_nltk_or_faiss(package):
    for path in sources(package):
        assert not imported(path) & {"ray", "nltk", "faiss", "numba", "imagehash", "webdataset"}


@pytest.mark.parametrize("package", ["dedup", "dataset_builder"])
def test_data_stages_need_no_torch(package):
    for path in sources(package):
        assert not imported(path) & {"torch", "torchvision"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_no_module_hides_one_of_the_standard_library(package):
    """A stage that is started by its path has its own folder first on the path."""
    beside_the_stage = {path.stem for path in sources(package) if path.parent == ROOT / package}
    assert not beside_the_stage & sys.stdlib_module_names
