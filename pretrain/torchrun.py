"""torchrun that ends as the program it runs does.

    python -m pretrain.torchrun --standalone --nproc-per-node=8 -m pretrain.train --config run.json

Options and effects are those of `torchrun`, but:

- the exit status is the program's own (bad input 2, interrupted 75, see `status_of`), where torchrun's is always 1;
- no block about failed ranks stands below the program's message;
- a signal is passed on to the ranks once, however often it comes (schedulers tell every process of a job), and the ranks
  have `STOP_TIMEOUT_S` to save before they are killed;
- where hosts may come and go, the one with rank 0 may go, too;
- when the host where launchers meet is gone, that is said in a line.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from types import FrameType

from torch.distributed import DistError
from torch.distributed import run as torch_run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

from pipeline.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_PEER_LOST, REPEATED_S

STOP_TIMEOUT_S = 300
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(argv: Sequence[str] | None = None) -> None:
    """Run torchrun with `argv` and exit with the status of what it ran."""
    sys.exit(launch(list(sys.argv[1:] if argv is None else argv)))


def launch(argv: list[str]) -> int:
    """Status of the program that `argv`, torchrun's options, starts."""
    options = torch_run.parse_args(argv)
    options.signals_to_handle = "SIGHUP,SIGQUIT"  # torchrun's own; the other two are handled here
    options.shutdown_timeout = STOP_TIMEOUT_S
    if options.max_restarts or ":" in options.nnodes:
        # Else the ranks use the store of the first round's first host for good, whether it is still there or not.
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.elastic.agent.server.api").addFilter(is_of_no_signal)
    stop = StopOnce()
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        torch_run.run(options)
    except ChildFailedError as error:
        return status_of(failure.exitcode for failure in error.failures.values())
    except SignalException as error:
        return EXIT_INTERRUPTED if stop.let_save else 128 + error.sigval
    except (RendezvousError, DistError) as error:
        print(f"tagreel: the launchers cannot meet at '{options.rdzv_endpoint}': {error}", file=sys.stderr)
        return EXIT_PEER_LOST
    return 0


def is_of_no_signal(record: logging.LogRecord) -> bool:
    """Of torchrun's log: what it received, the ranks say in words of their own."""
    return "death signal" not in record.getMessage()


def status_of(exit_codes: Iterable[int]) -> int:
    """One exit status for several failed ranks (negative: killed by that signal): the one that tells most.

    A rank that merely lost a peer tells nothing when another one says why it left.
    """
    codes = [128 - code if code < 0 else code for code in exit_codes]
    for telling in (EXIT_BAD_INPUT, EXIT_INTERRUPTED):
        if telling in codes:
            return telling
    return next((code for code in codes if code != EXIT_PEER_LOST), EXIT_PEER_LOST)


class StopOnce:
    """Signal handler: the first signal stops the ranks, in torchrun's own way; later ones change nothing here.

    (A Ctrl-C some time after another one, which the ranks hear, too, ends those of training at once: `hastened`.)
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.hastened = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.since is None:
            self.since = time.monotonic()
            raise SignalException(f"told to stop by signal {number}", signal.Signals(number))
        self.hastened |= number == signal.SIGINT and time.monotonic() - self.since > REPEATED_S

    @property
    def let_save(self) -> bool:
        """The ranks ended by themselves, in their own time; they were neither hastened nor killed when it was up."""
        in_time = self.since is not None and time.monotonic() - self.since < STOP_TIMEOUT_S
        return in_time and not self.hastened


if __name__ == "__main__":
    main()
