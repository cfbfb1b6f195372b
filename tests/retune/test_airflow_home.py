import socket
import stat
import subprocess
import sys
from base64 import urlsafe_b64decode

import pytest

from retune.airflow_home import AirflowHome, free_port

SECRETS = ["AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY"]


def home(path, **base):
    return AirflowHome(path=path, dags=path / "dags", plugins=path / "plugins", port=8080, base=base)


def test_secrets_are_long_kept_for_the_next_start_and_different_for_another_home(tmp_path):
    first = home(tmp_path / "a").environment()
    again = home(tmp_path / "a").environment()
    other = home(tmp_path / "b").environment()
    assert len(first["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert len(first["AIRFLOW__API__SECRET_KEY"]) >= 64
    assert len(urlsafe_b64decode(first["AIRFLOW__CORE__FERNET_KEY"])) == 32
    assert [first[name] for name in SECRETS] == [again[name] for name in SECRETS]
    assert not {first[name] for name in SECRETS} & {other[name] for name in SECRETS}
    assert home(tmp_path / "a").password() == home(tmp_path / "a").password() != home(tmp_path / "b").password()


def test_only_the_owner_can_read_secrets_and_passwords(tmp_path):
    home(tmp_path).environment()
    for name in ("secrets.json", "passwords.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_what_the_environment_says_wins_over_defaults_but_not_over_places_and_login(tmp_path):
    made = home(
        tmp_path,
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="postgresql+psycopg2://127.0.0.1/airflow",
        AIRFLOW__CORE__PARALLELISM="16",
        AIRFLOW__CORE__FERNET_KEY="of the deployment",
        AIRFLOW__API__HOST="0.0.0.0",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        RETUNE_STORE="s3://bucket/prefix",
    )
    found = made.environment()
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql+psycopg2://127.0.0.1/airflow"
    assert found["AIRFLOW__CORE__PARALLELISM"] == "16"
    assert found["AIRFLOW__CORE__FERNET_KEY"] == "of the deployment"
    assert found["RETUNE_STORE"] == "s3://bucket/prefix"
    assert found["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert found["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert made.sqlite is None


def test_the_embedded_database_lies_in_the_home(tmp_path):
    assert home(tmp_path).sqlite == tmp_path / "airflow.db"
    assert home(tmp_path).environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow.db"


def test_a_taken_port_is_refused_by_number():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 must be free"):
            free_port(port)
        assert free_port() != port


def test_airflows_commands_say_nothing_of_a_library_that_they_can_do_without(tmp_path):
    environment = home(tmp_path, PYTHONWARNINGS="error:of the deployment").environment()
    assert environment["PYTHONWARNINGS"].endswith(",error:of the deployment")
    command = [sys.executable, "-c", "import airflow.settings, airflow.cli.commands.dag_command"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("", "")


def test_no_file_of_settings_is_made_or_obeyed_but_one_that_is_named(tmp_path):
    (tmp_path / "airflow.cfg").write_text("[logging]\nencrypt_s3_logs = True\n")
    mine = tmp_path / "mine.cfg"
    mine.write_text("[logging]\nencrypt_s3_logs = True\n")

    def asked(environment):
        command = [sys.executable, "-m", "airflow", "config", "get-value", "logging", "encrypt_s3_logs"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert asked(home(tmp_path).environment()) == "False\n"
    assert asked(home(tmp_path, AIRFLOW_CONFIG=str(mine)).environment()) == "True\n"
    asked(home(tmp_path / "new").environment())
    assert not (tmp_path / "new" / "airflow.cfg").exists()
