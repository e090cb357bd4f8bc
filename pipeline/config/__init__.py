"""The one frozen dataclass tree: sections, the stage configs made of them, load, dump, digest.

A stage is a function of one stage config. Sections say *what* is made; `root`, `execution` and `force` only say where and how,
so they stay outside the digest (`NOT_IN_DIGEST`).
"""

from pipeline.config.files import NOT_IN_DIGEST, ConfigError, determining, differences, digest, from_dict, load, to_dict
from pipeline.config.sections import (
    ClipConfig,
    ExecutionConfig,
    ModelConfig,
    RecipeConfig,
    SamplingConfig,
    SourceConfig,
    StorageConfig,
    X264Preset,
)
from pipeline.config.stages import (
    BuildConfig,
    CompactConfig,
    DedupConfig,
    JointConfig,
    LabelReportConfig,
    PretrainConfig,
    TargetConfig,
    TransferConfig,
)
from pipeline.config.sweep import (
    BaselineConfig,
    ClusterConfig,
    JointTargetConfig,
    PlatformConfig,
    SweepConfig,
    SweepSourceConfig,
    TransferSettings,
)

__all__ = [
    "NOT_IN_DIGEST",
    "BaselineConfig",
    "BuildConfig",
    "ClipConfig",
    "ClusterConfig",
    "CompactConfig",
    "ConfigError",
    "DedupConfig",
    "ExecutionConfig",
    "JointConfig",
    "JointTargetConfig",
    "LabelReportConfig",
    "ModelConfig",
    "PlatformConfig",
    "PretrainConfig",
    "RecipeConfig",
    "SamplingConfig",
    "SourceConfig",
    "StorageConfig",
    "SweepConfig",
    "SweepSourceConfig",
    "TargetConfig",
    "TransferConfig",
    "TransferSettings",
    "X264Preset",
    "determining",
    "differences",
    "digest",
    "from_dict",
    "load",
    "to_dict",
]
