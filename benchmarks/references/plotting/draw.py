"""Draws a curve that `python -m benchmarks curve` measured: `python draw.py CURVE.json IMAGE.svg`."""

import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "chatrelay"

from matplotlib import pyplot  # noqa: E402  # only now is it clear that nothing is shown

with open(sys.argv[1], encoding="utf-8") as file:
    curve = json.load(file)

figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")

streams = [point["count"] for point in curve["streams"]]
stacked = [0.0] * len(streams)
for part, colour in (("worker", "#1e3a8a"), ("Redis", "#b91c1c"), ("API", "#047857")):
    costs = [point["costs"][part] for point in curve["streams"]]
    upper = [below + cost for below, cost in zip(stacked, costs, strict=True)]
    left.fill_between(streams, stacked, upper, color=colour, alpha=0.75, linewidth=0, label=part)
    left.plot(streams, upper, color=colour, marker="o", markersize=3, linewidth=1)
    stacked = upper
left.set(xscale="log", xlabel="answers at once, 20–50 tokens/s and a reader each", ylabel="CPU per delta, µs", ylim=0)
left.set_xticks(streams, [f"{count:,}" for count in streams])
left.legend(frameon=False)

sockets = [point["count"] for point in curve["sockets"]]
right.plot(sockets, [point["costs"]["API"] for point in curve["sockets"]], color="#047857", marker="o", markersize=3)
right.set(xscale="log", xlabel="sockets on one message", ylabel="API's CPU per delivered event, µs", ylim=0)
right.set_xticks(sockets, [f"{count:,}" for count in sockets])

for axes in (left, right):
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig(sys.argv[2], metadata={"Date": None})
