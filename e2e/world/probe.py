"""A flow run in little: say RUNNING, note the execution, say COMPLETED.

Starts in a twentieth of the time of `prefect flow-run execute`, so that storms of
runs fit on a small machine. Waits as the engine does when it comes too early.

PROBE_SECONDS makes it run that long, PROBE_UNTIL until a file exists.
PROBE_EXIT makes it die without a word.
PROBE_FALSE_STARTS lets so many pods of the run die before they say anything.
PROBE_ENDS says how the executions of the run end, one after the other: COMPLETED,
FAILED (tried again in this process where the server allows it), PAUSED (suspended:
the pod ends, and a new one comes when the run is resumed) or DIES. The last holds
for all that follow, and for it alone PROBE_UNTIL is meant.
PROBE_PAUSES pauses the run while its pod lives, until it is resumed.
PROBE_SIGTERM does what PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR=reschedule does.
"""

import datetime
import json
import os
import signal
import time
import urllib.request
import uuid

run = os.environ["PREFECT__FLOW_RUN_ID"]
api = f"{os.environ['PREFECT_API_URL']}/flow_runs/{run}"


def call(path, body=None):
    """What the server answers; asked again while it is down."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(api + path, data, {"Content-Type": "application/json"})
    for attempt in range(20):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except OSError as fault:
            print(run, path, fault, flush=True)
            time.sleep(0.2 * attempt)
    raise SystemExit(f"{run}: no answer to {path}")


def propose(kind, name=None, **details):
    """The server's answer; a repeat of what it had accepted unheard is accepted."""
    transition = str(uuid.uuid4())
    state = {"type": kind, "state_details": {"transition_id": transition, **details}}
    if name:
        state["name"] = name
    answer = call("/set_state", {"state": state})
    stored = answer.get("state") or {}
    if stored.get("state_details", {}).get("transition_id") == transition:
        answer["status"] = "ACCEPT"
    return answer


def start():
    """RUNNING, when it is time."""
    answer = propose("RUNNING")
    while answer["status"] == "WAIT":
        time.sleep(answer["details"]["delay_seconds"])
        answer = propose("RUNNING")
    return answer


def pause(name, reschedule):
    timeout = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    propose("PAUSED", name, pause_timeout=timeout.isoformat(), pause_reschedule=reschedule)


def reschedule(*_):
    """As the engine at SIGTERM: put back whatever is not over, and CRASHED runs."""
    state = call("")["state_type"]
    if state not in ("COMPLETED", "FAILED", "CANCELLED"):
        propose("SCHEDULED", "AwaitingRetry")
    os._exit(143)


def starts(file):
    """How many executions the file has of this run, and this one noted."""
    with open(file, "a+") as notes:
        notes.seek(0)
        before = notes.read().split().count(run)
        notes.write(run + "\n")
    return before


if "PROBE_SIGTERM" in os.environ:
    signal.signal(signal.SIGTERM, reschedule)
if "PROBE_FALSE_STARTS" in os.environ:
    if starts(os.environ["EXECUTIONS"] + ".starts") < int(os.environ["PROBE_FALSE_STARTS"]):
        raise SystemExit(9)
answer = start()
print(run, answer["status"], flush=True)
before = starts(os.environ["EXECUTIONS"])
ends = os.environ.get("PROBE_ENDS", "COMPLETED").split(",")
last = before >= len(ends) - 1
end = ends[-1] if last else ends[before]
time.sleep(float(os.environ.get("PROBE_SECONDS", "0")))
while last and "PROBE_UNTIL" in os.environ and not os.path.exists(os.environ["PROBE_UNTIL"]):
    time.sleep(0.2)
if "PROBE_EXIT" in os.environ:
    raise SystemExit(int(os.environ["PROBE_EXIT"]))
if answer["status"] != "ACCEPT" or end == "DIES":
    raise SystemExit(0 if end != "DIES" else 3)
if "PROBE_PAUSES" in os.environ:
    pause("Paused", False)
    while call("")["state_type"] == "PAUSED":
        time.sleep(0.5)
if end == "PAUSED":
    pause("Suspended", True)
elif end == "FAILED":
    refused = propose("FAILED")
    if refused["state"]["type"] != "SCHEDULED":
        raise SystemExit(1)
    start()
    propose("COMPLETED")
else:
    propose("COMPLETED")
