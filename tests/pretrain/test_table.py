"""`tagreel models`: the table says what the paper does, aligned, and what else was asked for."""

import json
import re

import pytest

from pretrain.models import BUILDERS, build_model, table
from pretrain.models.counts import shapes_only, trace


def printed(capsys, *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        table.main(options)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_table_has_every_network_with_the_numbers_of_the_paper(capsys):
    lines = printed(capsys).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.split()[:1] and line.split()[0] in BUILDERS}
    assert rows.keys() == BUILDERS.keys()
    for name, (params, gmac) in {
        "r2plus1d_18": (33, 83),
        "r2plus1d_34": (64, 152),
        "r2plus1d_101": (86, 176),
        "r2plus1d_152": (118, 252),
    }.items():
        _, million, features, _, gmac_32 = rows[name]
        assert (round(float(million.removesuffix("M"))), round(float(gmac_32))) == (params, gmac)
        assert features == ("512" if name in ("r2plus1d_18", "r2plus1d_34") else "2048")
    assert len({len(line) for line in lines if line.split()[:1] and line.split()[0] in BUILDERS}) == 1
    assert ["T", "=", "8", "8×56×56", "8×56×56", "4×28×28", "2×14×14", "1×7×7"] in [line.split() for line in lines]


def test_options_change_what_is_counted(capsys):
    (network,) = json.loads(printed(capsys, "r2plus1d_34", "--size", "128", "--clip-lengths", "32", "--json"))
    assert (network["name"], round(network["gmac"]["32"], 1)) == ("r2plus1d_34", 199.0)
    assert network["outputs"]["32"]["layer4"] == [4, 8, 8]
    fewer = json.loads(printed(capsys, "r2plus1d_34", "--labels", "359", "--json"))
    assert network["num_params"] - fewer[0]["num_params"] == (400 - 359) * (512 + 1)
    assert "channels × 0.25" in printed(capsys, "r2d_10", "--width", "0.25")


def test_layers_have_the_same_sizes_in_every_network():
    for clip_length in (1, 2, 8, 32):
        sizes = set()
        for name in BUILDERS:
            with shapes_only():
                sizes.add(tuple(part.after for part in trace(build_model(name, 1), clip_length, 112)))
        assert len(sizes) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("r2plus1d_35",), "unknown model 'r2plus1d_35'; choices: .*r2plus1d_34"),
        (("--size", "0"), "must be positive"),
        (("--clip-lengths",), "at least one"),
    ],
)
def test_impossible_tables_are_refused(options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        table.main(options)
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)
