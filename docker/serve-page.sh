#!/usr/bin/env bash
# Start the API server with the one administrator whose password the environment holds. The file lies in memory.
set -euo pipefail

umask 077
printf '{"admin": "%s"}\n' "${RETUNE_ADMIN_PASSWORD:?set it in docker/.env}" >"$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
exec airflow api-server
