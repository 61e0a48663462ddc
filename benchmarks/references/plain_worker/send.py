"""Puts tasks into the queue: `python send.py TASK COUNT`."""

import sys
import uuid

from tasks import answer, app, nothing

task = {"answer": answer, "nothing": nothing}[sys.argv[1]]
with app.producer_or_acquire() as producer:
    for _ in range(int(sys.argv[2])):
        task.apply_async((str(uuid.uuid4()),), producer=producer)
