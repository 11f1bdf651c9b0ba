#!/bin/sh
# Runs in the container once S3 is up: makes the bucket of the examples, again and again without harm.
set -eu
awslocal s3api head-bucket --bucket fanout 2>/dev/null || awslocal s3api create-bucket --bucket fanout
