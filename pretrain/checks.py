"""What a pretraining config must be, told before anything is read or written."""

import os

from pipeline import storage
from pipeline.config import ClipConfig, ConfigError, ModelConfig, PretrainConfig
from pretrain import reporter, schedule
from pretrain.models import BUILDERS

AT_LEAST = {
    "checkpoint_clips": 1,
    "checkpoint_minutes": 0,
    "keep_last": 0,
    "keep_every": 0,
    "loader_workers": 0,
    "cache_mb": 0,
    "max_replaced": 0,
}


def check(config: PretrainConfig) -> None:
    """Refuse what cannot work; ConfigError names the field."""
    check_clip(config.clip)
    check_model(config.model)
    if not storage.is_local(config.root):
        raise ConfigError(f"checkpoints are written to local disks only; root = '{config.root}' is a URL")
    schedule.check(config.recipe)
    reporter.check(config)
    for name, least in AT_LEAST.items():
        if not getattr(config, name) >= least:
            raise ConfigError(f"{name} = {getattr(config, name)} must be at least {least}")
    if not config.peer_timeout_s > 0:
        raise ConfigError(f"peer_timeout_s = {config.peer_timeout_s} must be above 0")
    if config.force and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
        raise ConfigError(
            "force would discard the run anew at each of torchrun's restarts: remove its folder yourself, or give this "
            "one another name"
        )


def check_clip(clip: ClipConfig) -> None:
    """Refuse clips of no frames or pixels."""
    for name in ("length", "stride", "crop_px"):
        if getattr(clip, name) < 1:
            raise ConfigError(f"clip.{name} = {getattr(clip, name)} must be at least 1")
    if clip.fps is not None and not clip.fps > 0:
        raise ConfigError(f"clip.fps = {clip.fps} must be above 0; leave it out for the stored rate")
    scaled_to = clip.size_hw[:1] if clip.short_edge else clip.size_hw
    if clip.crop_px > min(scaled_to):
        raise ConfigError(f"clip.crop_px = {clip.crop_px} does not fit into clip.size_hw = {clip.size_hw}")


def check_model(model: ModelConfig) -> None:
    """Refuse a network that nobody builds."""
    if model.name not in BUILDERS:
        raise ConfigError(f"unknown model.name = '{model.name}'; choices: {', '.join(BUILDERS)}")
    if not 0 < model.width < float("inf"):
        raise ConfigError(f"model.width = {model.width} must be a number above 0")
