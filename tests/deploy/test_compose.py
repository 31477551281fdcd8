"""compose.yaml: by the specification's schema, and by what this project's image and commands need."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sawyer import __version__
from sawyer.home import Home
from sawyer.recipe import load_recipe
from serve.remote.launch import launch_script
from tests.deploy.checks import UNWANTED, check_command, is_read, pinned, stages, tool, volumes
from tests.deploy.dockerfile import ROOT

TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == f"sawyer:{__version__}"}


def examples() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def defaults(text: str) -> str:
    """A value as it is with nothing set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_it_fits_the_specification():
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_plain_up_starts_the_application_and_postgres_only():
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"app", "db"}
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["gpu"]} == {"vllm", "api", "page"}
    assert set(OURS) == {"app", "api", "page"}


def test_variables_are_those_of_the_example_and_secrets_have_no_default():
    found = re.findall(r"\$\{(\w+)(?::([-?])([^}]*))?\}", TEXT)
    assert {name for name, _, _ in found} == set(examples())
    for name, _, default in found:
        if UNWANTED.search(name):
            assert not examples()[name] and default in ("", "set it in .env"), name
    assert all(mark == "?" for name, mark, _ in found if name == "POSTGRES_PASSWORD")


@pytest.mark.parametrize("name", OURS)
def test_our_services_set_only_what_the_code_reads(name):
    assert [variable for variable in OURS[name]["environment"] if not is_read(variable)] == []


def test_images_are_pinned_and_limited():
    for name, service in SERVICES.items():
        assert pinned(service["image"]), name
        assert "mem_limit" in service or name == "vllm", name  # a model takes what it takes
        assert "no-new-privileges:true" in service["security_opt"] and "user" not in service, name
    assert all(service["cap_drop"] == ["ALL"] for service in OURS.values())


def test_ports_are_the_images_and_published_to_this_machine_alone():
    exposed = stages()["runtime"].all("EXPOSE")[0].text
    published = [(name, defaults(port)) for name, service in SERVICES.items() for port in service.get("ports", [])]
    for name, port in published:
        assert re.fullmatch(rf"127\.0\.0\.1:\d+:{exposed}", port), name
    assert {name for name, _ in published} == set(OURS)


def test_volumes_are_where_the_image_has_them():
    declared = set(COMPOSE["volumes"])
    for name in ("app", "api"):
        mounts = dict(mount.split(":")[:2] for mount in SERVICES[name]["volumes"])
        assert set(mounts.values()) == volumes() and set(mounts) <= declared
    named = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert named == declared
    # vLLM reads the adapters at the same path as SAWYER names them.
    assert "state:/home/sawyer/state:ro" in SERVICES["vllm"]["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_commands_are_ones_the_program_takes_and_end_in_time(name):
    options = check_command([defaults(word) for word in OURS[name]["command"]])
    assert options["port"] == 7860 and options["host"] == "0.0.0.0"
    if "drain_seconds" in options:
        assert int(OURS[name]["stop_grace_period"].rstrip("s")) >= options["drain_seconds"] + 10
    if name == "api":
        assert options["url"] == "http://vllm:8001" and "--port=8001" in SERVICES["vllm"]["command"]


def test_waiting_is_for_services_that_tell_when_they_are_ready():
    for name, service in SERVICES.items():
        for other, how in (service.get("depends_on") or {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert "healthcheck" in SERVICES[other] or other in OURS  # ours have the image's


def test_the_database_url_is_the_database_services():
    url = SERVICES["app"]["environment"]["SAWYER_DB"]
    db = SERVICES["db"]["environment"]
    password = re.escape(db["POSTGRES_PASSWORD"])
    assert re.fullmatch(rf"postgresql\+psycopg://{db['POSTGRES_USER']}:{password}@db:5432/{db['POSTGRES_DB']}", url)
    assert "ports" not in SERVICES["db"]


def test_vllm_has_the_options_that_print_launch_prints(tmp_path: Path):
    name = examples()["RECIPE"]
    script = launch_script("vllm", load_recipe(name), Home(tmp_path).ensure(), name)
    line = next(line for line in script.replace("\\\n", " ").splitlines() if line.startswith("vllm serve"))
    _, _, model, *words = shlex.split(line.rstrip("& "))
    printed = {f"--model={model}", *re.findall(r"--[\w-]+(?:=[^ ]+)?", re.sub(r" (?!--)", "=", " ".join(words)))}
    here = {defaults(option) for option in SERVICES["vllm"]["command"]}
    assert here - {"--host=0.0.0.0"} == printed - {"--host=127.0.0.1"}
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in script
    assert SERVICES["vllm"]["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
