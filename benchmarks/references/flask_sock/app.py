"""WebSockets from Flask as its users write them: a view for each socket, which has a Redis subscription of its own.

gunicorn --worker-class gevent --worker-connections 20000 app:app
"""

import os

import redis
from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)
client = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=100_000)


@app.get("/healthz")
def healthz():
    return "ok"


@sock.route("/<path:channel>")
def follow(ws, channel):
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(channel)
    for message in subscription.listen():
        ws.send(message["data"].decode())
