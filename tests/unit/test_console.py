"""What a person sees of many processes."""

import io

from dev.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_line_stands_under_its_processs_name() -> None:
    stream = io.StringIO()
    console = Console(stream, width=6, environment={})
    console.line("web", "serving")
    console.line("worker", "ready")
    console.say("ready  http://127.0.0.1/")
    assert stream.getvalue() == "web    | serving\nworker | ready\nready  http://127.0.0.1/\n"


def test_a_process_keeps_its_colour_and_another_has_another() -> None:
    stream = Terminal()
    console = Console(stream, environment={})
    for name in ("web", "worker", "web"):
        console.line(name, "x")
    colours = [line.split("m")[0] for line in stream.getvalue().splitlines()]
    assert colours[0] == colours[2] != colours[1]


def test_no_color_is_respected() -> None:
    stream = Terminal()
    Console(stream, environment={"NO_COLOR": "1"}).line("web", "x")
    assert "\x1b" not in stream.getvalue()


def test_a_reader_who_left_does_not_end_the_run() -> None:
    stream = io.StringIO()
    console = Console(stream, environment={})
    stream.close()
    console.line("web", "nobody reads this")
    console.say("nor this")
