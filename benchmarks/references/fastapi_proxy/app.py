"""The shortest way from a model to a browser: the answer goes through as it comes, and nothing is kept.

uvicorn app:app
"""

import json
import os

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel

app = FastAPI()
client = AsyncOpenAI(api_key="none", base_url=os.environ["OPENAI_BASE_URL"])


class Question(BaseModel):
    content: str


@app.get("/healthz")
async def healthz():
    return "ok"


@app.post("/chat")
async def chat(question: Question):
    async def events():
        stream = await client.chat.completions.create(
            model="bench", messages=[{"role": "user", "content": question.content}], stream=True
        )
        async for chunk in stream:
            if chunk.choices and (content := chunk.choices[0].delta.content):
                yield f"data: {json.dumps({'type': 'delta', 'content': content})}\n\n"
        yield 'data: {"type":"finalized"}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")
