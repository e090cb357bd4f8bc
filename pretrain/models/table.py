"""`tagreel models`: every network with its parameters, multiply-adds, features and the sizes of its layers."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

from pipeline import progress
from pipeline.cli import run_stage
from pipeline.config import ConfigError
from pretrain.models import BUILDERS, build_model, count
from pretrain.models.counts import Shape, shapes_only, trace


@dataclass(frozen=True)
class ModelsConfig:
    """The networks to choose from: parameters, multiply-adds ("GFLOPs" of the paper's Table 2), sizes of their layers."""

    names: Positional[tuple[str, ...]] = ()
    """Networks to list, e.g. r2plus1d_34 r3d_18; none lists all."""
    size: int = 112
    """Height and width of the clips, in pixels."""
    clip_lengths: tuple[int, ...] = (8, 32)
    """Frames per clip; each has its columns."""
    labels: int = 400
    """Size of the final layer."""
    width: float = 1.0
    """Multiplier of all channel counts; 1 is the paper's."""
    json: bool = False
    """Print JSON instead."""


@dataclass(frozen=True)
class Network:
    """What the table says of one network."""

    name: str
    num_params: int
    num_features: int
    """D, the size of the vector before the final layer."""
    gmac: dict[int, float]
    """By clip length: of one clip."""
    outputs: dict[int, dict[str, Shape]]
    """By clip length: of the stem and of each layer."""


def measure(name: str, config: ModelsConfig) -> Network:
    """Build a network without values and measure it."""
    with shapes_only():
        model = build_model(name, config.labels, config.width)
    return Network(
        name,
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        num_features=model.num_features,
        gmac={length: count(model, length, config.size)[1] for length in config.clip_lengths},
        outputs={
            length: {part.name: part.after for part in trace(model, length, config.size)}
            for length in config.clip_lengths
        },
    )


def show(config: ModelsConfig) -> None:
    """Print the networks."""
    check(config)
    networks = [measure(name, config) for name in config.names or BUILDERS]
    if config.json:
        progress.say(json.dumps([dataclasses.asdict(network) for network in networks], indent=1))
        return
    scaled = f", channels × {config.width:g}" if config.width != 1 else ""
    progress.say(f"Clips of T frames of {config.size}×{config.size} pixels, {config.labels} labels{scaled}.")
    progress.say("GMAC: 10⁹ multiply-adds of the convolutions and the final layer for one clip.\n")
    progress.say(aligned(size_rows(networks)))
    progress.say("\nOutputs, frames × height × width, the same in every network; features are the mean of layer4's.\n")
    progress.say(aligned(layer_rows(networks[0])))


def check(config: ModelsConfig) -> None:
    """Refuse what names no network or no clip."""
    unknown = [name for name in config.names if name not in BUILDERS]
    if unknown:
        raise ConfigError(f"unknown model '{unknown[0]}'; choices: {', '.join(BUILDERS)}")
    if not config.clip_lengths:
        raise ConfigError("--clip-lengths needs at least one number of frames")
    if min(config.size, config.labels, *config.clip_lengths) < 1 or config.width <= 0:
        raise ConfigError("--size, --labels, --clip-lengths and --width must be positive")


def size_rows(networks: list[Network]) -> list[list[str]]:
    """Header and one row per network."""
    rows = [["model", "parameters", "features", *(f"GMAC, T = {length}" for length in networks[0].gmac)]]
    for network in networks:
        gmac = [f"{gmac:.2f}" for gmac in network.gmac.values()]
        rows.append([network.name, f"{network.num_params / 1e6:.2f}M", str(network.num_features), *gmac])
    return rows


def layer_rows(network: Network) -> list[list[str]]:
    """Header and one row per clip length."""
    names = next(iter(network.outputs.values()))
    rows = [["clip", *names]]
    for length, outputs in network.outputs.items():
        rows.append([f"T = {length}", *("×".join(map(str, shape)) for shape in outputs.values())])
    return rows


def aligned(rows: list[list[str]]) -> str:
    """Columns two spaces apart; the first one begins together, the others end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of `tagreel models`."""
    run_stage(ModelsConfig, show, argv)


if __name__ == "__main__":
    main()
