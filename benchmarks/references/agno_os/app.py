"""One agent on AgentOS, which streams each run as Server-Sent Events. Without a database: nothing is kept.

uvicorn app:app
"""

import os

from agno.agent import Agent
from agno.models.openai.like import OpenAILike
from agno.os import AgentOS

agent = Agent(
    id="bench",
    model=OpenAILike(id="bench", api_key="none", base_url=os.environ["OPENAI_BASE_URL"]),
    telemetry=False,
)
app = AgentOS(agents=[agent], telemetry=False).get_app()
