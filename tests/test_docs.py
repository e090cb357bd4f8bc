"""What the documents say exists, does: links and anchors, commands and their options, files and modules, and measured rates."""

import contextlib
import dataclasses
import importlib.util
import io
import json
import re
from functools import cache
from pathlib import Path

import pytest

from pipeline import config as configs
from pipeline import sweeps
from pipeline.cli import VERBS, main
from pipeline.launch import estimates

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "infra" / "README.md",
    REPOSITORY / "benchmarks" / "README.md",
]
RESULTS = REPOSITORY / "benchmarks" / "results"
PACKAGES = {"pipeline", "dataset_builder", "dedup", "pretrain", "finetune", "infra", "benchmarks", "tests", "docs"}
OPTION = re.compile(r"(?<![\w-])--([a-z][\w-]*(?:\.[a-z][\w-]*)*)")
COMMAND = re.compile(r"(?:tagreel|python -m|torchrun -m) ([\w.]+)([^#|>\n]*)")
VERB_OF = {module: verb for verb, (module, _) in VERBS.items()} | {
    "pretrain.train": "pretrain",
    "finetune.transfer": "transfer",
}
PLACEHOLDERS = {"VERB", "NAME"}
OF_ALL = {"config", "help"}
OF_OTHERS = {
    *(
        "nnodes",
        "nproc-per-node",
        "max-restarts",
        "rdzv-backend",
        "rdzv-endpoint",
        "rdzv-id",
        "rdzv-conf",
        "local-addr",
    ),
    *("dependency", "constraint"),
}
"""Options of torchrun, Slurm and pip that documents name."""


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def document(request) -> Path:
    return request.param


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def blocks(text: str) -> str:
    """The lines of all fenced or indented code, continuation lines joined."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE)
    return re.sub(r"\s*\\\n\s*", " ", "\n".join([*fenced, *indented]))


def inline(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(path: Path) -> set[str]:
    """Those that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S), re.M)
    shown = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in shown}


@cache
def options(program: str) -> frozenset[str]:
    """What `tagreel VERB --help` lists; of a module without a verb, the options and the fields of configs in its source."""
    verb = VERB_OF.get(program, program)
    if verb in VERBS:
        return frozenset(OPTION.findall(helped(verb))) | OF_ALL
    text = Path(importlib.util.find_spec(program).origin).read_text()
    fields = re.findall(r"^    (\w+): ", text, re.MULTILINE)
    for name in re.findall(r"run_stage\((\w+)", text):
        fields += [field.name for field in dataclasses.fields(getattr(configs, name, None) or Nothing)]
    names = (name.replace("_", "-") for name in fields)
    return frozenset([*OPTION.findall(text), *names]) | OF_ALL | OF_OTHERS


@dataclasses.dataclass
class Nothing:
    """Of a config that its own module defines, whose fields stand there."""


def helped(verb: str) -> str:
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        patch.setenv("COLUMNS", "300")
        patch.setattr("sys.argv", ["tagreel"])  # which `main` sets anew
        with contextlib.suppress(SystemExit):
            main([verb, "--help"])
    return text.getvalue()


def test_links_and_anchors_lead_somewhere(document):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text()))
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        path = (document.parent / name) if name else document
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path), link


def test_every_command_exists_with_its_options(document):
    text = document.read_text()
    for program, words in COMMAND.findall("\n".join([blocks(text), *inline(text)])):
        if program in PLACEHOLDERS:
            continue
        assert program in VERBS or importlib.util.find_spec(program), program
        assert set(OPTION.findall(words)) <= options(program), f"{program}{words}"


def test_every_option_named_by_itself_is_one_of_some_program(document):
    programs = [
        *VERBS,
        "finetune.joint",
        *(f"benchmarks.{path.stem}" for path in REPOSITORY.glob("benchmarks/[a-z]*.py")),
    ]
    known = frozenset().union(*map(options, programs))
    for code in inline(document.read_text()):
        if code.startswith("--"):
            for option in OPTION.findall(code.replace(".*", "")):
                assert option in known or any(name.startswith(f"{option}.") for name in known), code


def test_every_file_of_the_repository_that_is_named_exists(document):
    text = document.read_text()
    for word in [*blocks(text).split(), *(code.split()[-1] for code in inline(text))]:
        path = re.fullmatch(r"([\w.]+)/[\w./-]+", word)
        if path and path[1] in PACKAGES and not word.endswith(".parquet"):
            assert (REPOSITORY / word).exists(), word


def test_every_result_named_is_there(document):
    for name in re.findall(r"results/([a-z0-9_]+\.json)", document.read_text()):
        assert (RESULTS / name).is_file(), name


def test_readme_links_every_document():
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", (REPOSITORY / "README.md").read_text()))
    assert linked == {path.name for path in (REPOSITORY / "docs").glob("*.md")}


RATE = re.compile(r"\| (?P<rate>[^|]+) \| `(?P<file>\w+\.json)`, `(?P<key>[^`]+)` \|")


def test_rates_of_the_cluster_page_are_the_measured_ones():
    """Rows `| … | NUMBER unit … | `file.json`, `dotted.key` | …`: the number is the value, as rounded as it is written."""
    rows = list(RATE.finditer((REPOSITORY / "docs" / "cluster.md").read_text()))
    assert len(rows) > 10
    for row in rows:
        value = json.loads((RESULTS / row["file"]).read_text())["results"]
        for part in row["key"].split("."):
            value = value[part]
        written = re.match(r"[\d,]+(?:\.\d+)?", row["rate"])[0].replace(",", "")
        significant = written.replace(".", "").strip("0")
        assert float(f"{value:.{len(significant)}g}") == pytest.approx(float(written)), row[0]


SWEEP = re.compile(
    r"^\| `(?P<name>\w+)` \((?:Figure|Table) [^|]*\| (?P<runs>\d+) on [^|]*\| (?P<runs_h>[\d,]+) \| (?P<transfers_h>[\d,]+) \|",
    re.M,
)


def test_gpu_hours_of_sweeps_on_the_cluster_page_are_those_of_the_dry_run():
    rows = list(SWEEP.finditer((REPOSITORY / "docs" / "cluster.md").read_text()))
    assert len(rows) > 1
    for row in rows:
        plan = sweeps.plan(sweeps.scaled(row["name"], "paper"))
        sizes = estimates.target_sizes(plan)
        costs = {
            kind: [estimates.cost(stage, sizes) for stage in plan.stages if stage.kind == kind]
            for kind in ("pretrain", "transfer")
        }
        assert int(row["runs"]) == len(costs["pretrain"])
        for kind, written in (("pretrain", row["runs_h"]), ("transfer", row["transfers_h"])):
            assert int(written.replace(",", "")) == round(estimates.total(costs[kind]).gpu_hours), row[0]
