"""Fine-tuning presets against Tables 8 to 17, read from the paper's text, digit by digit."""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline import cli, recipes
from pipeline.config import ConfigError, TransferConfig
from pipeline.transfer_recipes import BATCH_PER_GPU, GPUS, ROWS, VARIED

CELLS = re.compile(
    r"(?P<label>.+?) (?P<passes>\d+) (?P<rates>[\d.]+(?:/[\d.]+)?) (?:(?P<warmup>\d+) )?\[(?P<steps>[\d,]+)\]"
)
TARGETS = {
    "Kinetics": ["kinetics"],
    "EPIC-Kitchens": ["epic_verb", "epic_noun"],
    "Something-something-v1": ["something"],
}
SAID_THRICE = r"(\d+(?:\.\d+)?)\1\1"  # the text has every formula as it looks, as it is spoken and as it is typed


@dataclass(frozen=True)
class Printed:
    """A row as printed, its braces resolved and its verbs and nouns apart."""

    table: int
    label: str
    target: str
    passes: str
    rate: str
    warmup: str
    steps: str
    caption: str

    @property
    def name(self) -> str:
        """The preset's name, from what is printed."""
        found = re.search(r"R\(2\+1\)D[-–](\d+)", self.label) or re.search(r"Model: R\(2\+1\)D-(\d+)", self.caption)
        depth = f"r{found[1]}" if found else "r3d18"  # Table 12: Section 4.3.2
        length = caption_number("clip-length=", self.caption) or 8
        what = re.sub(r"R\(2\+1\)D[-–]\d+(; )?", "", self.label)
        if "Pre-training data: IG-Kinetics-65M" in self.caption:
            what = "IG-Kinetics-65M"
        if what.isdigit():
            what += " labels"
        what = what.lower().replace("ig-kinetics", "ig").replace("videoframes", "frames")
        what = re.sub(r"[^a-z0-9]+", "_", what).strip("_")
        return f"table{self.table}_{self.target}_{depth}_{length}f_{what}"


def caption_number(before: str, caption: str) -> int | None:
    found = re.search(re.escape(before) + r"(\d+)", caption)
    return int(found[1]) if found else None


def resolved(label: str) -> list[str]:
    """`A–{1, 2}` is `A–1` and `A–2`; commas inside braces part numbers, never thousands."""
    found = re.fullmatch(r"(.*)\{(.*)\}", label)
    return [found[1] + choice.strip() for choice in found[2].split(",")] if found else [label]


def printed_rows(text: str) -> list[Printed]:
    rows, waiting = [], []
    for line in text[text.index("A.4 Hyper parameters") :].splitlines():
        if cells := CELLS.fullmatch(line.strip()):
            waiting.append(cells)
        elif caption := re.match(r"Table (\d+): Hyper parameters", line):
            (targets,) = (names for name, names in TARGETS.items() if f"Target dataset: {name}" in line)
            rows += [
                Printed(
                    table=int(caption[1]),
                    label=label,
                    target=target,
                    passes=cells["passes"],
                    rate=rate,
                    warmup=cells["warmup"] or "0",
                    steps=cells["steps"],
                    caption=line,
                )
                for cells in waiting
                for label in resolved(cells["label"])
                for target, rate in zip(targets, cells["rates"].split("/"), strict=True)
            ]
            waiting = []
    return rows


@pytest.fixture(scope="module")
def paper(shared_data) -> str:
    """The text of the paper, or a skip."""
    for path in sorted(Path(shared_data.parent / "papers").glob("*.txt")):
        if "Table 8: Hyper parameters" in (text := path.read_text()):
            return text
    pytest.skip("no text of the paper")


def test_every_printed_row_is_a_preset_and_the_other_way_round(paper):
    names = [row.name for row in printed_rows(paper)]
    assert len(names) == len(set(names)) == 62
    assert set(names) == {row.name for row in ROWS}
    assert {row.table for row in printed_rows(paper)} == set(VARIED) == set(range(8, 18))


def test_every_digit_is_the_printed_one(paper):
    for printed in printed_rows(paper):
        config = recipes.preset(TransferConfig, printed.name)
        assert config.passes == int(printed.passes), printed
        assert config.warmup_passes == int(printed.warmup), printed
        assert config.decay_passes == tuple(map(int, printed.steps.split(","))), printed
        assert config.learning_rates == (float(64 * Decimal(printed.rate)),), printed
        assert config.clip.length == (caption_number("clip-length=", printed.caption) or 8), printed
        assert config.batch_per_gpu == (caption_number("batch size per GPU: ", printed.caption) or 16), printed
        assert config.batch == 64 * config.batch_per_gpu, printed
        (row,) = (row for row in ROWS if row.name == printed.name)
        assert Decimal(str(row.lr_per_gpu)) == Decimal(printed.rate), printed


def test_only_table_12_says_neither_clip_length_nor_batch(paper):
    silent = {row.table for row in printed_rows(paper) if caption_number("batch size per GPU: ", row.caption) is None}
    assert silent == {row.table for row in printed_rows(paper) if "clip-length" not in row.caption} == {12}


def test_what_all_tables_share_is_in_the_text_before_them(paper):
    nodes, gpus = re.search(rf"\({SAID_THRICE} and {SAID_THRICE.replace('1', '2')} respectively", paper).groups()
    assert int(nodes) * int(gpus) == GPUS == 64
    decays = re.search(
        rf"weight decay of {SAID_THRICE} and LR decay of {SAID_THRICE.replace('1', '2')} for all", paper
    ).groups()
    for row in ROWS:
        config = row.config()
        assert (config.weight_decay, config.decay_factor) == tuple(map(float, decays))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_gpu_of_the_paper_is_a_virtual_worker(row):
    """Linear scaling: rate and batch of all are 64 times those of one, and eight processes share them evenly."""
    config = recipes.preset(TransferConfig, row.name)
    workers, rest = divmod(config.batch, config.batch_per_gpu)
    assert (workers, rest, workers % config.num_processes) == (64, 0, 0)
    assert config.batch_per_gpu == BATCH_PER_GPU[row.length]
    assert config.learning_rates[0] / workers == pytest.approx(row.lr_per_gpu, rel=1e-12)
    assert (config.protocol, config.target) == ("full_ft", row.target)
    assert sum(config.decay_passes) + config.warmup_passes <= config.passes
    assert (config.warmup_passes > 0) == (row.target == "kinetics")  # A.4


def test_a_preset_is_the_defaults_of_the_command_line():
    name = "table17_something_r152_32f_ig"
    config = cli.parse(TransferConfig, ["--preset", name, "--run", "mine", "--target", "ours"])
    assert config == replace(recipes.preset(TransferConfig, name), run="mine", target="ours")


def test_networks_are_inflated_tested_and_named_as_the_sections_say():
    inflated = {row.pretraining for row in ROWS if row.config().inflate}
    assert inflated == {"imagenet", "ig_19m_images", "ig_250m_images", "ig_19m_frames"}  # Table 4
    assert {row.table for row in ROWS if row.config().test_crop_px == 128} == {13, 16, 17}  # Section 4.4
    assert {row.config().model.name for row in ROWS if row.table == 12} == {"r3d_18"}  # Section 4.3.2


def test_a_name_that_is_nearly_right_is_answered_with_those_it_could_be():
    with pytest.raises(
        ConfigError, match=r"near to it: .*table8_kinetics_r34_8f_ig_5m.*; `tagreel recipes` lists all \d+"
    ):
        recipes.preset(TransferConfig, "table8_kinetics_r34_8f_5m")


def test_the_list_has_a_line_with_columns_for_every_row(capsys):
    recipes.show(None)
    said = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert said["table17_something_r152_32f_ig"][1:] == ["16", "–", "12", "0.00013", "0.00832", "64", "×", "6"]
    assert {row.name for row in ROWS} <= set(said)
