"""The learning rate as a pure function of the clips seen: nothing to store, nothing to restore."""

from pipeline.config import ConfigError, RecipeConfig


def learning_rate(clips_seen: int, recipe: RecipeConfig) -> float:
    """Rate of the step that begins after `clips_seen` clips (paper, Section 3.3).

    One worker's rate grows linearly to V times it over `warmup_clips`; it is multiplied by `decay_factor` at the end of
    each of the `num_decays + 1` equal stages but the last. The paper: 0.192, halved every 35M clips, last 2.34375e-5.
    """
    stage = clips_seen * (recipe.num_decays + 1) // recipe.total_clips
    return _warmed_up(clips_seen, recipe) * recipe.decay_factor ** min(stage, recipe.num_decays)


def _warmed_up(clips_seen: int, recipe: RecipeConfig) -> float:
    peak = peak_rate(recipe)
    if clips_seen >= recipe.warmup_clips:
        return peak
    return recipe.lr_per_gpu + (peak - recipe.lr_per_gpu) * clips_seen / recipe.warmup_clips


def peak_rate(recipe: RecipeConfig) -> float:
    """Linear scaling: V times one worker's rate."""
    return recipe.virtual_workers * recipe.lr_per_gpu


def num_steps(recipe: RecipeConfig) -> int:
    """Steps of V × B clips that cover `total_clips`; the last one may go past it."""
    return -(-recipe.total_clips // (recipe.virtual_workers * recipe.batch_per_gpu))


def check(recipe: RecipeConfig) -> None:
    """ConfigError for a schedule that is not one: no clips, a negative rate, a warm-up without an end."""
    for name in ("total_clips", "virtual_workers", "batch_per_gpu"):
        if getattr(recipe, name) < 1:
            raise ConfigError(f"recipe.{name} must be at least 1")
    for name in ("warmup_clips", "num_decays", "lr_per_gpu", "weight_decay", "shuffle_shards"):
        if not getattr(recipe, name) >= 0:
            raise ConfigError(f"recipe.{name} must not be negative")
    if not 0 < recipe.decay_factor <= 1:
        raise ConfigError("recipe.decay_factor must be above 0 and at most 1: it reduces the rate")
    if not 0 <= recipe.momentum < 1:
        raise ConfigError("recipe.momentum must be at least 0 and below 1")
    if recipe.warmup_clips > recipe.total_clips:
        raise ConfigError(
            f"recipe.warmup_clips = {recipe.warmup_clips:,} is longer than recipe.total_clips = {recipe.total_clips:,}: "
            "the full rate would never be reached"
        )


def describe(recipe: RecipeConfig) -> str:
    """The schedule in one line, for the terminal and for run.json."""
    warmup = f"warm-up over {recipe.warmup_clips:,} clips" if recipe.warmup_clips else "no warm-up"
    stage, left = divmod(recipe.total_clips, recipe.num_decays + 1)
    every = f"{'about ' if left else ''}every {stage:,}"
    decays = f"{recipe.num_decays} × {recipe.decay_factor:g} {every}" if recipe.num_decays else "no decay"
    outlasts = recipe.decay_factor < 1 and recipe.warmup_clips * (recipe.num_decays + 1) > recipe.total_clips
    return (
        f"{recipe.virtual_workers} workers × {recipe.lr_per_gpu:g} = {peak_rate(recipe):g}, {warmup}, {decays}, "
        f"{recipe.total_clips:,} clips in {num_steps(recipe):,} steps of {recipe.virtual_workers * recipe.batch_per_gpu:,}"
        + ("; the warm-up goes on after the first reduction, so the full rate is not reached" if outlasts else "")
    )
