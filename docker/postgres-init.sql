-- Airflow has the database that the environment names; Optuna's tables would clash with its alembic_version.
CREATE DATABASE studies;
