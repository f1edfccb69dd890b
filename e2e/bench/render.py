"""Prints the seconds that the worker's own functions take to render one Job.

As `prefect.workers.base` calls them for each flow run, without any request.
"""

import asyncio
import json
import os
import time

from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

given = json.loads(os.environ["INPUT"])
pool = WorkPool.model_validate(given["pool"])
run = FlowRun.model_validate(given["flow_run"])
deployment = DeploymentResponse.model_validate(given["deployment"])
flow = Flow.model_validate(given["flow"])


async def render():
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
        base_job_template=pool.base_job_template,
        values=(deployment.job_variables or {}) | (run.job_variables or {}),
        client=None,
    )
    configuration.prepare_for_flow_run(
        flow_run=run, deployment=deployment, flow=flow, work_pool=pool, worker_name="bench"
    )
    return configuration.job_manifest


async def main():
    for _ in range(20):  # warm caches
        await render()
    repeats = 200
    started = time.perf_counter()
    for _ in range(repeats):
        await render()
    print((time.perf_counter() - started) / repeats, end="")


asyncio.run(main())
