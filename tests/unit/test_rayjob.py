"""The manifest for Kubernetes: what KubeRay takes, and what cbs-batch takes.

The schema is written by hand: the part of KubeRay's ``RayJob`` (``ray.io/v1``) and of Kubernetes'
pods that the manifest uses, and strict, so that a slip is found. KubeRay's own is of 1.2 MB.
"""

import re
import shlex
from typing import Any

import jsonschema
import pytest
import yaml

from cbs_core.choose.presets import conf_dir, loaded
from tests.conftest import ROOT

FILE = ROOT / "deploy" / "rayjob.yaml"


def fields(required: str = "", **properties: object) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def lists(items: object) -> dict[str, object]:
    return {"type": "array", "items": items, "minItems": 1}


TEXT, BOOL, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?)?$"}
PARAMETERS = {"type": "object", "additionalProperties": TEXT}
AMOUNTS = {"type": "object", "additionalProperties": QUANTITY}

CONTAINER = fields(
    "name image",
    name=NAME,
    image=TEXT,
    resources=fields(limits=AMOUNTS, requests=AMOUNTS),
    volumeMounts=lists(fields("name mountPath", name=NAME, mountPath=TEXT, readOnly=BOOL)),
)
CLAIM = fields("claimName", claimName=TEXT, readOnly=BOOL)
POD = fields(
    "spec",
    spec=fields(
        "containers",
        containers=lists(CONTAINER),
        volumes=lists(fields("name", name=NAME, persistentVolumeClaim=CLAIM)),
    ),
)
GROUP = fields(
    "groupName template",
    groupName=NAME,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=PARAMETERS,
    template=POD,
)
RAY_JOB = fields(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields("name", name=NAME, namespace=NAME),
    spec=fields(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=BOOL,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=fields(
            "headGroupSpec",
            rayVersion=TEXT,
            enableInTreeAutoscaling=BOOL,
            autoscalerOptions=fields(idleTimeoutSeconds=COUNT),
            headGroupSpec=fields("template", rayStartParams=PARAMETERS, template=POD),
            workerGroupSpecs=lists(GROUP),
        ),
    ),
)


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    found = yaml.safe_load(FILE.read_text())
    assert isinstance(found, dict)
    return found


def test_kubernetes_takes_it(job) -> None:
    jsonschema.validate(job, RAY_JOB)


def test_a_slip_is_found(job) -> None:
    text = FILE.read_text()
    for word in ("maxReplicas", "claimName", "entrypoint", "memory: 8Gi", "rayStartParams"):
        slip = {"memory: 8Gi": "memory: 8 GB"}.get(word, f"{word}s")
        wrong = yaml.safe_load(text.replace(word, slip))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, RAY_JOB)


def test_it_says_what_cbs_batch_takes(job) -> None:
    command, *words = shlex.split(job["spec"]["entrypoint"])
    assert command == "cbs-batch"
    said = dict(word.split("=", 1) for word in words)
    known = loaded(conf_dir() / "batch.yaml").keys() | {"engine"}
    known |= {f"engine.{key}" for key in loaded(conf_dir() / "engine" / "ray.yaml")}
    assert said.keys() <= known
    assert (said["engine"], said["engine.address"]) == ("ray", "auto")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert int(said["engine.workers"]) == group["maxReplicas"]
    # No machine is up when the workers' size is due: a worker without a GPU would be what is due.
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert said["engine.gpu"] == limits["nvidia.com/gpu"]
    assert said["engine.cpus"] == limits["cpu"]


def test_every_pod_has_the_films_and_ray_is_the_version_that_was_tested(job) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["resources"]["limits"] == container["resources"]["requests"]
    tested = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert tested is not None
    assert cluster["rayVersion"] == tested[1]
