"""Renders Jobs by the Python worker's own functions: JSON lines in, JSON lines out.

A line in: {"work_pool", "deployment", "flow_run", "flow", "blocks", "variables"}, and
"environ" where the worker has more variables in its environment than this process.
A line out: {"manifest", "namespace"}, or {"error"}.
"""

import asyncio
import json
import os
import sys
import warnings
from types import SimpleNamespace

warnings.simplefilter("ignore")

import prefect  # noqa: E402
import prefect.context  # noqa: E402
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool  # noqa: E402
from prefect.client.schemas.responses import DeploymentResponse  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration  # noqa: E402

V2 = prefect.__version__.startswith("2.")


class Server:
    """The reads that the worker makes of the Prefect API while it renders."""

    def __init__(self, given):
        self.given = given

    async def read_deployment(self, _):
        return parse(DeploymentResponse, self.given["deployment"])

    async def read_flow(self, _):
        return parse(Flow, self.given["flow"])

    async def read_variable_by_name(self, name):
        if name not in self.given["variables"]:
            return None
        return SimpleNamespace(value=self.given["variables"][name])

    async def read_block_document_by_name(self, name, block_type_slug, **_):
        key = f"{block_type_slug}/{name}"
        if key not in self.given["blocks"]:
            raise ObjectNotFound(KeyError(key))
        return SimpleNamespace(data=self.given["blocks"][key])


def parse(model, document):
    return model.parse_obj(document) if V2 else model.model_validate(document)


async def started_with(environ, given):
    """Render as a worker that was started with more variables: its settings are read anew."""
    own_environ, own_settings = dict(os.environ), prefect.context.GLOBAL_SETTINGS_CONTEXT
    os.environ.update(environ)
    try:
        prefect.context.GLOBAL_SETTINGS_CONTEXT = None  # else Prefect 2 takes the settings over from it
        prefect.context.GLOBAL_SETTINGS_CONTEXT = prefect.context.root_settings_context()
        return await render(given)
    finally:
        prefect.context.GLOBAL_SETTINGS_CONTEXT = own_settings
        os.environ.clear()
        os.environ.update(own_environ)


async def render(given):
    server = Server(given)
    pool = parse(WorkPool, given["work_pool"])
    run = parse(FlowRun, given["flow_run"])
    if V2:
        worker = SimpleNamespace(
            _client=server, _work_pool=pool, job_configuration=KubernetesWorkerJobConfiguration
        )
        configuration = await KubernetesWorker._get_configuration(worker, run)
    else:
        configuration = await KubernetesWorkerJobConfiguration.resolve_for_flow_run(
            run, client=server, work_pool=pool, worker_name="parity"
        )
    return {"manifest": configuration.job_manifest, "namespace": configuration.namespace}


async def main():
    for line in sys.stdin:
        given = json.loads(line)
        environ = given.get("environ")
        try:
            answer = await (started_with(environ, given) if environ else render(given))
        except Exception as fault:
            answer = {"error": f"{type(fault).__name__}: {fault}"[:500]}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
