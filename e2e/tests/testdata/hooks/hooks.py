"""A flow that goes on until it is cancelled, and whose hook then takes seconds."""

import os
import time

from prefect import flow


def cancelled(flow, flow_run, state):
    time.sleep(3)
    with open(os.environ["HOOKS"], "a") as hooks:
        hooks.write(f"{flow_run.id}\n")


@flow(on_cancellation=[cancelled])
def endless():
    try:
        time.sleep(3600)
    finally:
        time.sleep(2)  # closing what it had open
