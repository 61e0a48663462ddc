"""The smallest graph: one call of the model, whose tokens are streamed.

langgraph dev --no-browser --no-reload
"""

import os

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

model = ChatOpenAI(model="bench", api_key="none", base_url=os.environ["OPENAI_BASE_URL"], streaming=True)


async def answer(state):
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
