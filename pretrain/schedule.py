"""The learning rate as a pure function of the clips seen: nothing to store, nothing to restore."""

from pipeline.config import RecipeConfig


def learning_rate(clips_seen: int, recipe: RecipeConfig) -> float:
    """Rate of the step that begins after `clips_seen` clips (paper, Section 3.3).

    One worker's rate grows linearly to V times it over `warmup_clips`; it is multiplied by `decay_factor` at the end of
    each of the `num_decays + 1` equal stages but the last. The paper: 0.192, halved every 35M clips, last 2.34375e-5.
    """
    stage = clips_seen * (recipe.num_decays + 1) // recipe.total_clips
    peak = recipe.virtual_workers * recipe.lr_per_gpu
    return _warmed_up(clips_seen, recipe, peak) * recipe.decay_factor ** min(stage, recipe.num_decays)


def _warmed_up(clips_seen: int, recipe: RecipeConfig, peak: float) -> float:
    if clips_seen >= recipe.warmup_clips:
        return peak
    return recipe.lr_per_gpu + (peak - recipe.lr_per_gpu) * clips_seen / recipe.warmup_clips


def num_steps(recipe: RecipeConfig) -> int:
    """Steps of V × B clips that cover `total_clips`; the last one may go past it."""
    return -(-recipe.total_clips // (recipe.virtual_workers * recipe.batch_per_gpu))
