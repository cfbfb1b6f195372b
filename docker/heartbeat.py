"""Exit 0 when the API server calls the named part of Airflow healthy: scheduler, dag_processor, triggerer, ..."""

import json
import os
import sys
import urllib.request

if __name__ == "__main__":
    server = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/execution/")
    with urllib.request.urlopen(f"{server}/api/v2/monitor/health", timeout=10) as answer:
        health = json.load(answer)
    sys.exit(0 if health[sys.argv[1]]["status"] == "healthy" else 1)
