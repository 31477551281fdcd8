"""The Dockerfile: linted, pinned, without root or secrets, and fit for its own health check. What its RUN lines do is
proved by ``tests.deploy.prove_dockerfile``, run by hand: it needs root, a network and minutes."""

import re
import subprocess

import pytest

from tests.deploy.checks import UNWANTED, check_command, pinned, stages, tool, volumes
from tests.deploy.dockerfile import ROOT, Ignore, copy_source, needed

TARGETS = ("cpu", "cuda")


def test_hadolint_finds_nothing():
    done = subprocess.run([tool("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_are_pinned_and_python_is_what_the_project_asks_for():
    for stage in stages().values():
        assert stage.image in stages() or pinned(stage.image), stage
    assert {stage.image for stage in stages().values()} - set(stages()) == {"python:3.11.14-slim-bookworm"}


def test_without_a_target_the_cpu_image_is_made():
    assert list(stages())[-1] == "cpu"


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_without_root_and_carries_no_build_tools(target):
    stage = stages()[target]
    assert stage.image == "runtime"
    users = [step.text for step in stages()["runtime"].all("USER") + stage.all("USER")]
    assert users == ["1000:1000"]  # a number: Kubernetes' runAsNonRoot cannot judge a name
    assert [copy_source(copy) for copy in stage.all("COPY")] == [f"build-{target}"]
    assert f"build-{'cuda' if target == 'cpu' else 'cpu'}" not in {one.name for one in needed(stages(), target)}


def test_state_and_models_are_volumes_that_the_user_owns():
    runtime = stages()["runtime"]
    said = " ".join(step.text for step in runtime.all("ENV"))
    env = dict(re.findall(r"(\w+)=(\S+)", said))
    assert {env["SAWYER_HOME"], env["HF_HOME"]} == volumes()
    made = runtime.all("RUN")[0].text
    assert all(f"chown sawyer:sawyer {' '.join(sorted(volumes(), reverse=True))}" in made for _ in volumes())


def test_the_command_listens_where_the_health_check_asks():
    runtime = stages()["runtime"]
    options = check_command(runtime.all("CMD")[0].words())
    port = runtime.all("EXPOSE")[0].text
    assert (options["host"], options["port"]) == ("0.0.0.0", int(port))
    assert f"http://127.0.0.1:{port}/healthz" in runtime.all("HEALTHCHECK")[0].text


def test_no_secret_is_baked_in():
    for stage in stages().values():
        for step in stage.all("ARG") + stage.all("ENV"):
            assert not UNWANTED.search(step.text), step


def test_torch_is_the_version_of_the_constraints():
    wanted = re.search(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.M)
    assert wanted
    for target in TARGETS:
        assert wanted[0] in stages()[f"build-{target}"].all("RUN")[0].text


def test_pip_takes_pinned_versions_only():
    lines = [step.text for stage in stages().values() for step in stage.all("RUN") if "pip " in step.text]
    assert len(lines) == 5 and all("-c constraints.txt" in line and "--no-cache-dir" in line for line in lines)


def test_dockerignore_keeps_what_is_copied_and_drops_state_and_secrets():
    ignore = Ignore((ROOT / ".dockerignore").read_text())
    copied = [word for copy in stages()["wheel"].all("COPY") for word in copy.text.split()[:-1]]
    assert copied and not [name for name in copied if ignore.drops(name)]
    assert not ignore.drops("sawyer/assets/nano/base/model.safetensors")
    for path in (".env", ".git/config", ".sawyer/keys.json", "secret.yaml", ".venv/bin/python", "tests/conftest.py",
                 "sawyer/__pycache__/types.cpython-311.pyc", "serve/.sawyer/sawyer.db", "sawyer/sawyer.db",
                 "ui/.env"):  # fmt: skip
        assert ignore.drops(path), path


def test_parser_reads_continued_lines_comments_and_stages():
    from tests.deploy.dockerfile import read_stages

    read = read_stages('FROM a:1.0 AS x\n# no\nRUN one \\\n && two\nFROM x AS y\nCOPY --from=x /a /b\nCMD ["p", "q"]\n')
    assert read["x"].all("RUN")[0].text.split() == ["one", "&&", "two"]
    assert [stage.name for stage in needed(read, "y")] == ["x", "y"]
    assert copy_source(read["y"].all("COPY")[0]) == "x" and read["y"].all("CMD")[0].words() == ["p", "q"]
