"""A worker as it is written first: the SDK's stream is iterated, and each delta is published.

celery --app tasks worker --pool threads --concurrency 300
"""

import json
import os
import time

import redis
from celery import Celery
from openai import OpenAI

app = Celery("plain", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True, result_backend=None)
client = OpenAI(api_key="none", base_url=os.environ["OPENAI_BASE_URL"])
channels = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=10_000)


@app.task
def nothing(number):
    """Celery's own cost."""


@app.task
def answer(message_id):
    stream = client.chat.completions.create(
        model="bench",
        messages=[{"role": "user", "content": "Say something"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    n = 0
    for chunk in stream:
        if chunk.choices and (content := chunk.choices[0].delta.content):
            event = {
                "type": "delta",
                "id": f"1-{n}",
                "messageId": message_id,
                "ts": int(time.time() * 1000),
                "content": content,
            }
            channels.publish(f"plain:{message_id}", json.dumps(event))
            n += 1
