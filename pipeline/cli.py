"""`tagreel VERB`: a short name for `python -m MODULE`; and how every stage reads its command line."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import tyro

from pipeline import config as configs
from pipeline.config import ConfigError
from pipeline.storage import StorageError

VERBS = {
    "demo": ("pipeline.demo", "run everything on a simulated platform: posts in, sweep report out"),
    "build": ("dataset_builder.build", "posts → hashtags → label space → manifest → shards and signatures"),
    "target": ("dataset_builder.targets", "annotation files → a target: the benchmark to transfer to"),
    "labels": ("dataset_builder.label_report", "compare the label spaces of datasets, and their overlap with targets"),
    "inspect": ("dataset_builder.inspect_shard", "look into a shard: counts, checks, and a picture of its videos"),
    "dedup": ("dedup.find", "find and exclude source videos that overlap a target"),
    "compact": ("dataset_builder.compact", "copy a dataset without its excluded videos (nothing else needs it)"),
    "pretrain": ("pipeline.launch:pretrain_main", "shards → checkpoint (starts torchrun on this machine)"),
    "export": ("pretrain.export", "checkpoint or weights file → weights in a published format, with a model card"),
    "transfer": ("pipeline.launch:transfer_main", "checkpoint × target × protocol → result"),
    "explain": ("finetune.explain", "result → where its network looks, what it confuses, how another result differs"),
    "sweep": ("pipeline.launch:sweep_main", "a figure or table of the paper: all its stages, with the report (--list)"),
    "recipes": ("pipeline.recipes", "list the settings of the paper, for --preset"),
    "report": ("pipeline.report", "write results.csv and report.html of a sweep again"),
    "models": ("pretrain.models.table", "list the networks: parameters, multiply-adds, features, sizes of the layers"),
    "doctor": ("pipeline.doctor", "check this machine: versions, decoder, Ray, torch, gradients"),
}

EXIT_BAD_INPUT = 2
EXIT_PEER_LOST = 69  # another process of the run is gone; nothing is wrong with this one
EXIT_INTERRUPTED = 75  # told to stop (SIGTERM, Ctrl-C), and what was done is saved; the same command goes on from there
REPEATED_S = 2.0  # signals this close together are one wish to stop

C = TypeVar("C")


class PeerLostError(RuntimeError):
    """Another process of a distributed run does not answer any more."""


def parse(
    kind: type[C],
    argv: Sequence[str] | None = None,
    load: Callable[[str], C] | None = None,
    default: C | None = None,
    about: str = "",
) -> C:
    """A stage config from the command line: defaults or `--preset NAME`, `--config FILE`, `--field value`; later ones win.

    `load` reads the file where it is not one of `kind`; `default` stands in for the defaults of `kind`, and `about` for its
    docstring in the help.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--config")
    known, rest = first.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    default = _preset(kind, known.preset) if known.preset else default or kind()
    if known.config:
        default = load(known.config) if load else configs.load(kind, known.config, default)
    description = (
        f"{about or kind.__doc__.strip()}\n\n--preset NAME (where `tagreel recipes` lists one), then --config FILE (.json or "
        ".toml) set defaults for the options below."
    )
    return tyro.cli(kind, args=rest, default=default, description=description, prog=_program())


def _preset(kind: type[C], name: str) -> C:
    from pipeline import recipes  # which reads command lines, too

    return recipes.preset(kind, name)


def _program() -> str:
    """What the user typed: `tagreel build`, or the module."""
    return sys.argv[0] if sys.argv[0].startswith("tagreel ") else f"python -m {_main_module()}"


def _main_module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return (spec.name if spec else os.path.basename(sys.argv[0])).removesuffix(".__main__")


def guarded(function: Callable[[], object]) -> int:
    """Call a stage; what the user can mend ends in one clear message and status 2 instead of a traceback."""
    try:
        function()
    except (ConfigError, StorageError) as error:
        _say_once("\n".join([f"tagreel: {error}", *getattr(error, "__notes__", [])]))
        return getattr(error, "status", EXIT_BAD_INPUT)
    except PeerLostError as error:
        _say_once(f"tagreel: {error}")
        return EXIT_PEER_LOST
    except BrokenPipeError:  # who reads the output has seen enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        _say_once("tagreel: interrupted; the same command goes on from here")
        return 130
    return 0


def _say_once(text: str) -> None:
    """A line on stderr; of the processes that torchrun started on this machine, the first to say it is enough."""
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")  # {folder of the run}/attempt_{n}/{local rank}/error.json
    if error_file and os.path.isabs(error_file):
        said = Path(error_file).parents[2] / f"said-{hashlib.sha256(text.encode()).hexdigest()}"
        try:
            said.touch(exist_ok=False)
        except FileExistsError:
            return
        except OSError:  # better twice than never
            pass
    print(text, file=sys.stderr)


def run_stage(kind: type[C], stage: Callable[[C], object], argv: Sequence[str] | None = None) -> None:
    """The body of every stage module's `main`: parse, run, exit with a status."""
    sys.exit(guarded(lambda: stage(parse(kind, argv))))


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    return (
        "tagreel: posts with hashtags in, pretrained video features and a sweep report out.\n\n"
        f"usage: tagreel VERB [options]        tagreel VERB --help lists a verb's options\n\n{verbs}\n\n"
        "Every verb takes --config FILE (.json or .toml), some a --preset NAME before it; options win. What is done stays done:\n"
        "the same command again skips what is whole, resumes what is not, and refuses a changed configuration."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `tagreel` command."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return
    verb, *rest = argv
    if verb not in VERBS:
        sys.exit(f"tagreel: unknown verb '{verb}'; choose from {', '.join(VERBS)}")
    module, _, name = VERBS[verb][0].partition(":")
    sys.argv = [f"tagreel {verb}", *rest]
    getattr(importlib.import_module(module), name or "main")(rest)


if __name__ == "__main__":
    main()
