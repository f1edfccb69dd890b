"""A flow run in little: say RUNNING, note the execution, say COMPLETED.

PROBE_SECONDS makes it run that long, PROBE_EXIT makes it die without a word, and
PROBE_FALSE_STARTS lets so many pods of the run die before they say anything.
Starts in a twentieth of the time of `prefect flow-run execute`, so that storms of
runs fit on a small machine. Waits as the engine does when it comes too early.
"""

import json
import os
import time
import urllib.request
import uuid

run = os.environ["PREFECT__FLOW_RUN_ID"]


def propose(kind):
    """The server's answer; a repeat of what it had accepted unheard is accepted."""
    transition = str(uuid.uuid4())
    body = {"state": {"type": kind, "state_details": {"transition_id": transition}}}
    request = urllib.request.Request(
        f"{os.environ['PREFECT_API_URL']}/flow_runs/{run}/set_state",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    for attempt in range(20):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except OSError as fault:
            print(run, kind, fault, flush=True)
            time.sleep(0.2 * attempt)
            continue
        state = answer.get("state") or {}
        if state.get("state_details", {}).get("transition_id") == transition:
            answer["status"] = "ACCEPT"
        return answer
    raise SystemExit(f"{run}: no answer to {kind}")


if "PROBE_FALSE_STARTS" in os.environ:
    with open(os.environ["EXECUTIONS"] + ".starts", "a+") as starts:
        starts.seek(0)
        before = starts.read().split().count(run)
        starts.write(run + "\n")
    if before < int(os.environ["PROBE_FALSE_STARTS"]):
        raise SystemExit(9)
answer = propose("RUNNING")
while answer["status"] == "WAIT":
    time.sleep(answer["details"]["delay_seconds"])
    answer = propose("RUNNING")
print(run, answer["status"], flush=True)
with open(os.environ["EXECUTIONS"], "a") as executions:
    executions.write(run + "\n")
time.sleep(float(os.environ.get("PROBE_SECONDS", "0")))
if "PROBE_EXIT" in os.environ:
    raise SystemExit(int(os.environ["PROBE_EXIT"]))
if answer["status"] == "ACCEPT":
    propose("COMPLETED")
