#!/usr/bin/env bash
# Make what the other services need and nobody else makes: tables, pools, the bucket. It may run any number of times.
set -euo pipefail

airflow db migrate
airflow pools set gpu "${RETUNE_GPU_SLOTS:-2}" "Trials that train at the same time."
python - <<'PYTHON'
import os

import boto3
from botocore.exceptions import ClientError

bucket = os.environ["RETUNE_STORE"].removeprefix("s3://").partition("/")[0]
try:
    boto3.client("s3").create_bucket(Bucket=bucket)
except ClientError as error:
    if error.response["Error"]["Code"] not in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:
        raise
print(f"bucket {bucket} is there")
PYTHON
