"""What can be proved of the images and of compose without an engine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile.control", DOCKER / "Dockerfile.gpu"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("retune-")}
VARIABLE = re.compile(r"\$\{(\w+)")


def example():
    lines = [line for line in (DOCKER / ".env.example").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile):
    hadolint = Path(sys.executable).parent / "hadolint"
    answer = subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_in_particular_from_a_pinned_base(dockerfile):
    text = dockerfile.read_text()
    users = re.findall(r"^USER (.+)$", text, re.MULTILINE)
    assert users == ["50000:50000"]
    assert text.index("USER 50000") > text.rindex("RUN ")
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.search(r":[\w.-]*\d", base), f"{base} names no version"
        assert not base.endswith(":latest")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_exists_and_is_let_into_the_context(dockerfile):
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in dockerfile.read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert any(Path(source).match(pattern) for pattern in let_in), f"{source} is not let in"


def test_both_images_hold_the_same_packages_of_ours():
    copied = [
        re.findall(r"^COPY (recsys|expectations|monitoring|retune) ", path.read_text(), re.M) for path in DOCKERFILES
    ]
    assert copied[0] == copied[1] == ["recsys", "expectations", "monitoring", "retune"]


def test_the_control_plane_leaves_out_pytorch_and_nothing_that_is_not_its_own():
    rule = re.search(r"awk '(/\^\[a-z\]/ .+?)' requirements.lock", (DOCKER / "Dockerfile.control").read_text())[1]
    kept = subprocess.run(["awk", rule, ROOT / "requirements.lock"], capture_output=True, text=True, check=True).stdout
    names = [
        set(re.findall(r"^([a-z0-9-]+)==", text, re.M)) for text in ((ROOT / "requirements.lock").read_text(), kept)
    ]
    left_out = names[0] - names[1]
    assert {"torch", "triton", "onnxscript"} <= left_out
    assert all(name in {"torch", "triton", "onnxscript"} or name.startswith(("nvidia-", "cuda-")) for name in left_out)
    assert "hash" in kept.splitlines()[-1]  # blocks are left out whole


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_write_nowhere_but_in_their_volumes_and_hold_no_privilege(name):
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_that_stays_is_watched(name):
    if name != "init":
        assert SERVICES[name]["healthcheck"]["test"]
        assert SERVICES[name]["restart"] == "unless-stopped"


def test_only_the_page_is_published_and_only_to_this_machine_unless_somebody_says_otherwise():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api-server": ["${RETUNE_BIND:-127.0.0.1}:${RETUNE_PORT:-8080}:8080"]}


def test_no_file_holds_a_secret():
    secret = re.compile(r"PASSWORD|SECRET|FERNET|ACCESS_KEY|BROKER_URL|SQL_ALCHEMY_CONN|RESULT_BACKEND|STUDIES")
    for service in SERVICES.values():
        for key, value in service["environment"].items() if "environment" in service else ():
            if secret.search(key) and not key.endswith("PASSWORDS_FILE"):
                assert VARIABLE.search(value), f"{key} is written down"
    given = {name: value for name, value in example().items() if value}
    assert given.keys() <= {"RETUNE_BIND", "RETUNE_PORT", "RETUNE_GPU_SLOTS", "RETUNE_GPU_CONCURRENCY"}


def test_the_example_names_every_variable_and_no_other():
    used = set(VARIABLE.findall((DOCKER / "compose.yaml").read_text()))
    assert used == set(example())


def test_every_queue_that_tasks_name_has_a_worker():
    queues = {word for service in SERVICES.values() for word in _after("--queues", service.get("command", ()))}
    assert queues == {"default", "gpu"}


def test_compose_accepts_both_files_and_refuses_to_start_without_the_secrets():
    compose = ["docker", "compose", "-f", str(DOCKER / "compose.yaml"), "-f", str(DOCKER / "compose.gpu.yaml")]
    if (
        not shutil.which("docker")
        or subprocess.run([*compose[:2], "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("docker's compose plugin is not installed")
    compose += ["--env-file", os.devnull]
    bare = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    refused = subprocess.run([*compose, "config"], env=bare, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "set it in docker/.env" in refused.stderr
    values = {**bare, **{name: value or "0123456789abcdef" for name, value in example().items()}}
    accepted = subprocess.run([*compose, "config"], env=values, capture_output=True, text=True, check=False)
    assert accepted.returncode == 0, accepted.stderr
    services = yaml.safe_load(accepted.stdout)["services"]
    assert set(services) == set(SERVICES)
    [device] = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"


def _after(option, command):
    return [command[i + 1] for i, word in enumerate(command) if word == option]
