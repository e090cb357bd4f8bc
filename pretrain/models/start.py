"""What a training starts from: the network of a config, at random or with the trunk of given weights."""

from dataclasses import dataclass

from pipeline.config import ConfigError, ModelConfig
from pretrain.models import VideoResNet, build_model, weights
from pretrain.models.inflation import inflate


@dataclass(frozen=True)
class Origin:
    """Where a network's first weights are from."""

    description: str
    """One line for the person at the terminal."""
    digests: dict[str, str]
    """SHA-256 of the weights file, for the inputs of what is trained from it; empty for random weights."""


def started(config: ModelConfig, num_labels: int, dropout: float = 0.0) -> tuple[VideoResNet, Origin]:
    """The network of `config` for `num_labels` labels, on the CPU, and where its weights are from.

    Of `config.weights` the trunk is taken. The final layer is always new, even for as many labels: nothing says that
    they are the same ones. 2-D kernels are inflated where the network's are longer (`config.inflate`).

    Raises:
        StorageError: the file cannot be read.
        ConfigError: it does not fit the network; the message names it and the tensors.
    """
    model = build_model(config.name, num_labels, config.width, dropout)
    if not config.weights:
        return model, Origin("random weights", {})
    tensors = weights.load(config.weights)
    digests = {"weights": weights.digest(config.weights)}
    try:
        tensors, inflated = inflate(tensors, model, config.inflate)
        weights.fill(model, tensors, trunk_only=True)
    except ConfigError as error:
        raise ConfigError(
            f"model.weights = '{config.weights}' do not fit model.name = '{config.name}': {error}"
        ) from error
    return model, Origin(_describe(config, len(inflated)), digests)


def _describe(config: ModelConfig, num_inflated: int) -> str:
    inflation = f"; {num_inflated} 2-D kernels inflated ({config.inflate})" if num_inflated else ""
    return f"trunk of '{config.weights}'{inflation}; the final layer is new"
