"""The package's docstring is a map of its modules."""

import re
from pathlib import Path

import dataset_builder


def test_every_module_is_on_the_map():
    modules = {path.stem for path in Path(dataset_builder.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules - set(re.findall(r"\w+", dataset_builder.__doc__)) == set()
