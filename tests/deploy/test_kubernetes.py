"""The Kubernetes manifests: what an admission controller and a rollout would find wrong."""

import os
import signal
import subprocess
from typing import Any

import pytest
import yaml

from sawyer import __version__
from sawyer.recipe import load_recipe
from tests.deploy.checks import check_command, is_read, pinned, stages, volumes
from tests.deploy.dockerfile import ROOT

FOLDER = ROOT / "docs/deploy"
DOCUMENTS: list[dict[str, Any]] = [
    document
    for file in [*sorted((FOLDER / "kubernetes").glob("*.yaml")), FOLDER / "jobs/train.yaml"]
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
SECRET = yaml.safe_load((FOLDER / "secret.example.yaml").read_text(encoding="utf-8"))
PODS = {doc["metadata"]["name"]: doc for doc in DOCUMENTS if doc["kind"] in ("Deployment", "StatefulSet", "Job")}


def pod(name: str) -> dict[str, Any]:
    return PODS[name]["spec"]["template"]["spec"]


def containers(name: str) -> list[dict[str, Any]]:
    return [*pod(name).get("initContainers", []), *pod(name)["containers"]]


def test_there_is_what_a_deployment_needs():
    kinds = sorted((doc["kind"], doc["metadata"]["name"]) for doc in DOCUMENTS)
    assert kinds == [
        ("Deployment", "sawyer"),
        ("Job", "sawyer-train"),
        ("NetworkPolicy", "sawyer-db"),
        ("PersistentVolumeClaim", "sawyer-models"),
        ("PersistentVolumeClaim", "sawyer-state"),
        ("Service", "sawyer"),
        ("Service", "sawyer-db"),
        ("StatefulSet", "sawyer-db"),
    ]
    assert all(doc["apiVersion"] in ("v1", "apps/v1", "batch/v1", "networking.k8s.io/v1") for doc in DOCUMENTS)


@pytest.mark.parametrize("name", PODS)
def test_pods_run_restricted(name):
    """The rules of Kubernetes' Pod Security Standard "restricted"."""
    security = pod(name)["securityContext"]
    assert security["runAsNonRoot"] is True and security["runAsUser"] > 0 and security["fsGroup"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(name)["automountServiceAccountToken"] is False
    for container in containers(name):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
        if name != "sawyer-db":
            assert own["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("name", PODS)
def test_images_are_pinned_and_resources_limited(name):
    for container in containers(name):
        assert pinned(container["image"])
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


def test_our_image_is_this_version_and_its_user_and_folders_are_the_images():
    for container in containers("sawyer"):
        assert container["image"] == f"sawyer:{__version__}"
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts) == volumes() | {"/tmp"}
    user = stages()["runtime"].all("USER")[0].text
    assert f"{pod('sawyer')['securityContext']['runAsUser']}:{pod('sawyer')['securityContext']['runAsGroup']}" == user


def test_volumes_mounted_are_declared_and_claimed():
    claims = {doc["metadata"]["name"] for doc in DOCUMENTS if doc["kind"] == "PersistentVolumeClaim"}
    for name in PODS:
        own = {volume["name"]: volume for volume in pod(name).get("volumes", [])}
        templates = {claim["metadata"]["name"] for claim in PODS[name]["spec"].get("volumeClaimTemplates", [])}
        for container in containers(name):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(own) | templates
        used = {
            volume["persistentVolumeClaim"]["claimName"] for volume in own.values() if "persistentVolumeClaim" in volume
        }
        assert used <= claims


def test_probes_ask_what_the_server_answers_at_its_port():
    container = pod("sawyer")["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (
        ports["http"] == int(stages()["runtime"].all("EXPOSE")[0].text) == check_command(container["command"])["port"]
    )
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert {get["port"] for get in asked.values()} == {"http"}
    assert {probe: get["path"] for probe, get in asked.items()} == {
        "startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"
    }  # fmt: skip


def test_a_pod_that_ends_has_time_for_the_replies_that_run():
    container = pod("sawyer")["containers"][0]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = check_command(container["command"])["drain_seconds"]
    assert pod("sawyer")["terminationGracePeriodSeconds"] >= pause + drain + 5
    assert PODS["sawyer"]["spec"]["strategy"] == {"type": "Recreate"} and PODS["sawyer"]["spec"]["replicas"] == 1


def test_the_server_is_not_open_and_the_first_key_is_made_before_it():
    assert check_command(pod("sawyer")["containers"][0]["command"])["open_to_all"] is False
    first = pod("sawyer")["initContainers"][0]["command"][-1]
    assert "sawyer keys add --role admin" in first and "test -s" in first


def test_environment_is_read_and_secrets_come_from_the_secret():
    known = set(SECRET["stringData"])
    for name in PODS:
        for entry in [entry for container in containers(name) for entry in container.get("env", [])]:
            if name != "sawyer-db":
                assert is_read(entry["name"]), entry
            if "valueFrom" in entry:
                reference = entry["valueFrom"]["secretKeyRef"]
                assert reference["name"] == SECRET["metadata"]["name"] and reference["key"] in known
    asked = {entry["name"] for name in PODS for container in containers(name) for entry in container.get("env", [])
             if "valueFrom" in entry}  # fmt: skip
    assert asked == known


def test_the_secret_is_a_template():
    values = SECRET["stringData"]
    assert values["POSTGRES_PASSWORD"] == "CHANGE-ME" and values["HF_TOKEN"] == ""
    assert values["SAWYER_DB"] == "postgresql+psycopg://sawyer:CHANGE-ME@sawyer-db:5432/sawyer"


def test_services_find_their_pods_and_ports():
    for service in [doc for doc in DOCUMENTS if doc["kind"] == "Service"]:
        found = [
            name for name, doc in PODS.items()
            if service["spec"]["selector"].items() <= doc["spec"]["template"]["metadata"]["labels"].items()
        ]  # fmt: skip
        assert found == [service["metadata"]["name"]]
        named = {port["name"] for container in pod(found[0])["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
    for name, doc in PODS.items():
        if doc["kind"] == "Job":  # makes its own
            continue
        assert doc["spec"]["selector"]["matchLabels"] == doc["spec"]["template"]["metadata"]["labels"], name


def test_nobody_but_the_server_reaches_the_database():
    (policy,) = [doc["spec"] for doc in DOCUMENTS if doc["kind"] == "NetworkPolicy"]
    labels = {name: doc["spec"]["template"]["metadata"]["labels"] for name, doc in PODS.items()}
    assert policy["podSelector"]["matchLabels"] == labels["sawyer-db"]
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": labels["sawyer"]}}]
    assert policy["ingress"][0]["ports"][0]["port"] in {
        port["name"] for port in pod("sawyer-db")["containers"][0]["ports"]
    }


def test_the_training_job_goes_on_after_it_was_killed_and_has_a_gpu():
    container = pod("sawyer-train")["containers"][0]
    assert container["image"] == f"sawyer:{__version__}-cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod("sawyer-train")["restartPolicy"] == "OnFailure"
    told = check_command(container["command"])
    assert told["resume"] is True
    load_recipe(str(told["recipe"]))
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == volumes() | {"/tmp"}


def test_the_slurm_job_is_one_process_that_is_queued_again(tmp_path):
    """Run by a shell, with stand-ins for srun and scontrol that say how they were called."""
    script = FOLDER / "jobs/train.slurm"
    asked = [line.removeprefix("#SBATCH ") for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--ntasks=1", "--gres=gpu:1", "--requeue"} <= set(asked)
    for name in ("srun", "scontrol"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho {name} $SAWYER_HOME "$@"; [ {name} = scontrol ] || sleep $PAUSE\n'
        )
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", str(script), "tiny"], env=env | {"PAUSE": "0"}, capture_output=True, text=True)
    command = f"srun {tmp_path}/.sawyer .venv/bin/sawyer pipeline tiny --resume"
    assert (done.returncode, done.stdout.strip()) == (0, command), done.stderr
    assert check_command(["sawyer", *command.split()[3:]])["resume"] is True
    with subprocess.Popen(
        ["bash", str(script)], env=env | {"PAUSE": "30"}, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as job:
        assert job.stdout is not None and "llama2-7b" in job.stdout.readline()
        job.send_signal(signal.SIGUSR1)
        assert job.stdout.readline().split() == ["scontrol", f"{tmp_path}/.sawyer", "requeue", "7"]
        os.killpg(job.pid, signal.SIGKILL)
