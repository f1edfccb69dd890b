"""Ask an address whether it is well, and say so."""

import os

import httpx
from prefect import flow, task
from prefect.runtime import task_run


@task(retries=2, retry_delay_seconds=1)
def fetch(url: str, fail_first: bool) -> int:
    if fail_first and task_run.run_count == 1:
        url = "http://127.0.0.1:9/"  # nobody listens there: the retry is seen
    response = httpx.get(url, timeout=10)
    response.raise_for_status()
    return response.status_code


@flow(log_prints=True)
def repo_info(url: str | None = None, fail_first: bool = False) -> int:
    url = url or os.environ["PREFECT_API_URL"] + "/health"
    status = fetch(url, fail_first)
    print(f"{url} answered {status}")
    return status
