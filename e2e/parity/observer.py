"""Emits the events of pods by the Python observer's own handler: JSON lines in
(pods), JSON lines out (events, with the category of the diagnosis)."""

import asyncio
import json
import logging
import sys
import warnings

warnings.simplefilter("ignore")

from prefect_kubernetes import observer  # noqa: E402
from prefect_kubernetes.diagnostics import diagnose_k8s_pod  # noqa: E402


class Events:
    async def emit(self, event):
        self.last = event


async def main():
    observer.events_client = Events()
    for line in sys.stdin:
        pod = json.loads(line)
        metadata = pod["metadata"]
        observer._last_event_cache.clear()
        await observer._replicate_pod_event(
            event={"type": "MODIFIED", "object": pod},
            uid=metadata["uid"],
            name=metadata["name"],
            namespace=metadata["namespace"],
            labels=metadata["labels"],
            status=pod["status"],
            logger=logging.getLogger("parity"),
        )
        event = observer.events_client.last.model_dump(mode="json")
        diagnosis = diagnose_k8s_pod(pod["status"])
        print(json.dumps({**event, "category": diagnosis.category.value if diagnosis else ""}), flush=True)


asyncio.run(main())
