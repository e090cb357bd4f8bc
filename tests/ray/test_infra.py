"""The files of infra/ are what Ray and KubeRay accept, and say what this checkout says."""

import re
import shlex

import pytest
import yaml

from pipeline.cli import parse
from pipeline.config import BuildConfig
from tests.ray.sandbox import REPOSITORY

INFRA = REPOSITORY / "infra"

# Fields of ray.io/v1 that these files may use (KubeRay's API reference).
JOB_FIELDS = {
    *("entrypoint", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes"),
    *(
        "runtimeEnvYAML",
        "submissionMode",
        "submitterPodTemplate",
        "submitterConfig",
        "rayClusterSpec",
        "clusterSelector",
    ),
    *("entrypointNumCpus", "entrypointResources", "jobId", "metadata", "suspend", "managedBy", "deletionStrategy"),
}
CLUSTER_FIELDS = {
    *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"),
    *("gcsFaultToleranceOptions", "headServiceAnnotations", "suspend", "managedBy"),
}
HEAD_FIELDS = {"rayStartParams", "template", "serviceType", "headService", "enableIngress", "resources", "labels"}
WORKER_FIELDS = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "numOfHosts", "suspend"),
    *("idleTimeoutSeconds", "scaleStrategy", "resources", "labels"),
}


@pytest.fixture(scope="module")
def job() -> dict:
    return yaml.safe_load((INFRA / "rayjob.yaml").read_text())


def test_the_cluster_file_passes_rays_own_check():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((INFRA / "ray-cluster.yaml").read_text()))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_cluster_file_keeps_the_dashboard_and_the_token_private():
    config = yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())
    (start,) = [command for command in config["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_the_ray_job_has_kuberays_shape(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() <= JOB_FIELDS
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() <= CLUSTER_FIELDS
    assert cluster["headGroupSpec"].keys() <= HEAD_FIELDS
    assert all(group.keys() <= WORKER_FIELDS for group in cluster["workerGroupSpecs"])
    assert all(type(value) is str for value in cluster["headGroupSpec"]["rayStartParams"].values())


def test_the_ray_job_asks_for_a_token_and_one_image_and_one_folder_everywhere(job):
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    containers = [container for pod in pods for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert all(container["volumeMounts"] == containers[0]["volumeMounts"] for container in containers)
    assert all(pod["volumes"] == pods[0]["volumes"] and pod["securityContext"]["runAsNonRoot"] for pod in pods)


def test_the_ray_job_starts_a_build_of_this_checkout(job):
    python, flag, module, *options = shlex.split(job["spec"]["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "dataset_builder.build")
    assert parse(BuildConfig, options).root.startswith("/data/")
    (ray,) = re.findall(r"^ray==(.+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray


def test_the_image_copies_the_packages_that_its_extras_need_and_is_not_root():
    lines = (INFRA / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert copied >= {"pipeline", "dataset_builder", "dedup", "pyproject.toml", "constraints.txt"}
    assert all((REPOSITORY / name).exists() for name in copied)
    allowed = {
        line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert copied <= allowed
    assert [line for line in lines if line.startswith("USER")] == ["USER tagreel"]
