"""Answers in words, in Markdown: small talk, questions about the document, stories, poems, explanations, code. Pure.

Where there is more than one way to say a thing, the message's own text picks it.
"""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from dev.scripted_model import phrases, video_scenes

NO_DOCUMENT: Final = object()
"""Stands for a document that was not shown; JSON's null is a document."""

_MOST_DOCUMENT_CHARACTERS: Final = 600


def _pick(options: Sequence[str], text: str) -> str:
    return options[zlib.crc32(text.encode()) % len(options)]


def before_an_edit(asked: str) -> str:
    """A short sentence to stand before the tool call."""
    return _pick(("Sure, I'll do that.", "All right, let me change that.", "Of course, one moment."), asked)


def answer(asked: str, document: Any, *, may_edit: bool, may_build: bool) -> str:
    """The answer to a message that asks for no change (or for one that can't be understood)."""
    for pattern, reply in _REPLIES:
        found = pattern.search(asked)
        if found is not None:
            return reply(found, asked)
    if _ABOUT_ABILITIES.search(asked):
        return _abilities(document, may_edit=may_edit, may_build=may_build)
    if _ABOUT_THE_DOCUMENT.search(asked):
        return _about_the_document(asked, document)
    if _WANTS_A_CHANGE.search(asked):
        return _change_not_understood(document, may_edit=may_edit)
    if re.match(r"\s*(?:explain|what(?:'s| is| are)|how|why|tell me|describe|who|when|where)\b", asked, re.IGNORECASE):
        return _explanation(_topic(asked), asked)
    return _fallback(asked)


# Small talk and writing


def _greeting(found: re.Match[str], asked: str) -> str:
    opening = _pick(("Hello!", "Hi there!", "Hello, good to see you!"), asked)
    return (
        f"{opening} I'm the assistant of this project. I can answer questions, tell you what's in the document, and "
        "change it "
        "when you ask me to.\n\nWhat would you like to do?"
    )


def _thanks(found: re.Match[str], asked: str) -> str:
    return _pick(("You're welcome! Tell me when you need something else.", "Gladly. What's next?", "Any time!"), asked)


def _farewell(found: re.Match[str], asked: str) -> str:
    return "Goodbye! Everything is saved, so you can go on whenever you like."


def _how_are_you(found: re.Match[str], asked: str) -> str:
    return "I'm a program, so always the same, but thank you for asking. How can I help you with the project?"


def _identity(found: re.Match[str], asked: str) -> str:
    return (
        "I'm the **scripted model**: a stand-in for a real language model, so that this project works without a "
        "network "
        "and without a key. My answers are made from a few rules, always the same for the same question, but they "
        "stream and call "
        "tools as a real model does.\n\nSet `OPENAI_API_KEY` to talk to a real one."
    )


def _echo(found: re.Match[str], asked: str) -> str:
    return phrases.unquoted(found["text"])


def _count(found: re.Match[str], asked: str) -> str:
    last = min(int(found["last"]), 1_000)
    return ", ".join(str(number) for number in range(1, last + 1)) + "."


def _story(found: re.Match[str], asked: str) -> str:
    topic = _topic(asked) or "a small lamp that didn't want to go out"
    hero = _pick(("Mira", "Jonas", "Ada", "Tomas"), asked)
    place = _pick(
        ("a harbour town", "a village at the edge of a forest", "a house above the tram depot"), asked + "place"
    )
    paragraphs = [
        f"## A story about {topic}",
        f"In {place}, where the mornings smelled of rain and bread, there lived somebody called {hero}. Nobody there "
        "spoke much of "
        f"{topic}, not because it was a secret, but because everyone thought that somebody else knew more about it.",
        f"{hero} was the kind of person who writes questions down. On the first page of the notebook stood only one: "
        "*what is it about "
        f"{topic} that makes people look away?* It was a good question, and like all good questions it led out of "
        "the door.",
        "The first to be asked was the woman who repaired clocks. “It's a matter of patience,” she said, without "
        "looking up. The second "
        "was the ferryman, who said that it was a matter of weather. The third, a child on a wall, thought for a "
        "long while. “You have "
        "to go and see,” said the child.",
        f"So {hero} went and saw. The way was longer than it looked, and steeper, and twice it turned back on "
        "itself. But at the top the "
        f"clouds opened, and there it was, plain as a loaf on a table: {topic}, neither as large as people feared "
        "nor as small as they "
        "had made it.",
        f"{hero} stayed until the evening, wrote three pages, and walked home in the dark. From then on, when "
        "anybody in town asked, there "
        "was somebody who could answer, and who always began in the same way: *you have to go and see.*",
    ]
    if re.search(r"\b(?:long|longer|very long|detailed|epic)\b", asked, re.IGNORECASE):
        paragraphs[4:4] = _longer_middle(hero, topic)
    return "\n\n".join(paragraphs)


def _longer_middle(hero: str, topic: str) -> list[str]:
    stations = (
        ("the mill", "the wheel had stopped, and the miller was glad of company"),
        ("the bridge", "somebody had painted every second plank blue"),
        ("the empty school", "a clock went on ticking for nobody"),
        ("the orchard", "the apples were counted each night by a man with a lantern"),
        ("the pass", "the wind took the hat and, after some thought, gave it back"),
        ("the hut", "there was soup on the stove and a note that said *help yourself*"),
    )
    return [
        f"### {number}. {place.removeprefix('the ').capitalize()}\n\nAt {place}, {what}. {hero} asked about {topic} "
        "there too. The answer was "
        f"a different one again, and it went into the notebook under the number {number}, with the date and a small "
        "drawing. “It "
        "doesn't fit the others,” said the notebook, or would have said, had it been that sort of notebook. “It "
        "will,” said "
        f"{hero}, and went on."
        for number, (place, what) in enumerate(stations, start=1)
    ]


def _poem(found: re.Match[str], asked: str) -> str:
    topic = _topic(asked) or "the morning"
    return (
        f"**On {topic}**\n\n"
        f"I meant to write of {topic} today,  \nand then the light came in.  \nIt moved the things I had to say  \n"
        "to where they might begin.\n\n"
        "A line is short, a day is long,  \nand neither one will wait;  \nthe bird outside repeats its song  \n"
        "and is not ever late.\n\n"
        f"So let me leave it, plain and small,  \nthis word or two of mine:  \nof {topic}, most of all,  \n"
        "the best is in the shine."
    )


def _code(found: re.Match[str], asked: str) -> str:
    language = "javascript" if re.search(r"\b(?:javascript|js|typescript|ts)\b", asked, re.IGNORECASE) else "python"
    topic = _topic(asked)
    if language == "javascript":
        block = (
            "export function longestWords(text, count = 3) {\n"
            "  const words = text.match(/\\p{L}+/gu) ?? [];\n"
            "  return [...new Set(words)].sort((a, b) => b.length - a.length).slice(0, count);\n"
            '}\n\nconsole.log(longestWords("a stream is a list that has not ended yet"));'
        )
    else:
        block = (
            "import re\n\n\n"
            "def longest_words(text: str, count: int = 3) -> list[str]:\n"
            '    """The longest different words of a text, longest first."""\n'
            '    words = set(re.findall(r"\\w+", text))\n'
            "    return sorted(words, key=lambda word: (-len(word), word))[:count]\n\n\n"
            'print(longest_words("a stream is a list that has not ended yet"))'
        )
    about = f" about {topic}" if topic else ""
    return (
        f"Here is a small example in {language.capitalize()}{about}:\n\n```{language}\n{block}\n```\n\n"
        "How it works:\n\n1. It finds the words of the text.\n2. It keeps each one once.\n3. It sorts them by length "
        "and takes the first "
        "few.\n\nI'm a stand-in for a real model, so take it as an example of code in an answer, more than as a "
        "solution."
    )


def _list_of_ideas(found: re.Match[str], asked: str) -> str:
    topic = _topic(asked) or "your project"
    return (
        f"Some ideas for {topic}:\n\n"
        "1. **Begin with the end.** Say in one sentence what should be different afterwards.\n"
        "2. **Show one thing.** A single clear picture beats five that compete.\n"
        "3. **Leave air.** Two seconds of calm after each important moment.\n"
        "4. **Repeat a colour.** What looks alike is understood as belonging together.\n"
        "5. **Close the circle.** Let the last scene answer the first one.\n\n"
        "Tell me which one you like, and I'll work it out."
    )


def _explanation(topic: str, asked: str) -> str:
    subject = topic or "that"
    return (
        f"Let me try to explain {subject}.\n\n"
        f"The short version: it helps to look at {subject} from three sides.\n\n"
        "- **What it is for.** Most things are easier to understand from their purpose than from their parts.\n"
        "- **How it works.** Take the smallest example that still shows it, and follow it step by step.\n"
        "- **Where it ends.** What it can't do tells as much as what it can.\n\n"
        f"I'm a scripted stand-in for a real model, so I know the form of a good answer about {subject} better than "
        "its content. "
        "About this project's document I do know: ask me what's in it, or tell me what to change."
    )


def _fallback(asked: str) -> str:
    quoted = " ".join(asked.split())
    quoted = quoted if len(quoted) <= 160 else quoted[:159] + "…"
    opening = _pick(("I see.", "Thank you for telling me.", "Understood."), asked)
    said = f"You wrote:\n\n> {quoted}\n\n" if quoted else ""
    return (
        f"{opening} {said}I'm a scripted stand-in for a language model, so I only understand some kinds of requests. "
        "You could try:\n\n"
        "- *What can you do?*\n- *What's in the document?*\n- *Add a title scene saying “Hello”*\n- *Make the "
        "background dark blue*\n"
        "- *Tell me a story about the sea*"
    )


def _topic(asked: str) -> str:
    found = re.search(
        r"\b(?:about|of|on|for|explain|what(?:'s| is| are)|describe)\s+(?P<topic>[^.!?\n]{2,80})", asked, re.IGNORECASE
    )
    topic = "" if found is None else found["topic"].strip(" ,;:")
    return re.sub(r"^(?:to me\s+|me\s+|about\s+)+", "", topic, flags=re.IGNORECASE)


# The document


def _abilities(document: Any, *, may_edit: bool, may_build: bool) -> str:
    lines = [
        "Here's what I can do:\n",
        "- **Answer questions** about the project's document: what's in it, how long it is, what it's called.",
    ]
    if may_edit and document is not NO_DOCUMENT:
        if video_scenes.is_video(document):
            lines.append(
                "- **Edit the video**: *add a title scene saying “Hello”*, *make the background dark blue*, *change "
                "the title to "
                "Summer*, *make scene 2 8 seconds*, *swap the first two scenes*, *remove the last scene*, *add a "
                "confetti scene*."
            )
        else:
            lines.append(
                "- **Edit the document**: *set title to Summer*, *add item milk to the list*, *remove milk from the "
                "list*."
            )
    if may_build:
        lines.append("- **Build components**: *build me a bouncing ball component*.")
    lines.append("- **Write**: a story, a poem, some ideas, a bit of code.")
    lines.append("\nI'm the scripted model, a stand-in for a real one, so keep it simple with me.")
    return "\n".join(lines)


def _about_the_document(asked: str, document: Any) -> str:
    if document is NO_DOCUMENT:
        return "There's no document in this project that I could look at."
    if not video_scenes.is_video(document):
        return _about_json(document)
    scenes, meta = document["scenes"], document["meta"]
    if re.search(r"\bhow many scenes\b|\bnumber of scenes\b", asked, re.IGNORECASE):
        return f"The video has **{phrases.plural(len(scenes), 'scene')}**."
    if re.search(r"\bhow long\b|\bduration\b|\blength\b", asked, re.IGNORECASE):
        return f"The video is **{meta['duration']} seconds** long."
    if re.search(r"\btitle\b|\bcalled\b|\bname\b", asked, re.IGNORECASE):
        return f"It's called **{meta['title']}**."
    if re.search(r"\bbackground\b|\bcolou?r\b", asked, re.IGNORECASE):
        color = meta.get("backgroundColor")
        return f"The background is `{color}`." if color else "No background colour is set."
    lines = [
        f"The video **{meta['title']}** is {meta['duration']} seconds long and has "
        f"{phrases.plural(len(scenes), 'scene')}:\n"
        if scenes
        else f"The video **{meta['title']}** has no scenes yet. Ask me to add one."
    ]
    for number, scene in enumerate(scenes, start=1):
        text = scene["data"].get("text")
        says = f", saying “{text}”" if isinstance(text, str) else ""
        end_s = phrases.tidy(scene["start"] + scene["duration"])
        lines.append(f"{number}. **{scene['id']}** ({scene['type']}), from {scene['start']} s to {end_s} s{says}")
    return "\n".join(lines)


def _about_json(document: Any) -> str:
    shown = json.dumps(document, indent=2, ensure_ascii=False)
    if len(shown) > _MOST_DOCUMENT_CHARACTERS:
        shown = shown[:_MOST_DOCUMENT_CHARACTERS] + "\n…"
    match document:
        case dict() if not document:
            what = "The document is empty."
        case dict():
            names = ", ".join(f"`{key}`" for key in list(document)[:20])
            what = f"The document has {phrases.plural(len(document), 'member')}: {names}."
        case list():
            what = f"The document is a list of {phrases.plural(len(document), 'item')}."
        case _:
            what = "The document is a single value."
    return f"{what}\n\n```json\n{shown}\n```"


def _change_not_understood(document: Any, *, may_edit: bool) -> str:
    if document is NO_DOCUMENT:
        return "There's no document in this project that I could change."
    if not may_edit:
        return "I can't change the document here: no tool for it was given to me."
    if video_scenes.is_video(document):
        return (
            "I'm not sure what to change. I understand requests such as:\n\n- *add a text scene saying “Hello”*\n"
            "- *make the background blue*\n- *change the title to Summer*\n- *make scene 2 longer*\n- *remove the "
            "last scene*\n"
            "- *swap the first two scenes*"
        )
    return (
        "I'm not sure what to change. I understand requests such as:\n\n- *set title to Summer*\n- *add item milk to "
        "the list*\n"
        "- *remove milk from the list*\n- *rename foo to bar*"
    )


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


_ABOUT_ABILITIES = _pattern(
    r"\bwhat can you do\b|\bwhat do you do\b|\bhow can you help\b|^\s*help\W*$|\byour (?:abilities|capabilities)\b"
)
_ABOUT_THE_DOCUMENT = _pattern(
    r"\b(?:document|project|scenes?|video|timeline|json|title|background)\b.*\?|"
    r"\b(?:describe|summari[sz]e|show|list|explain)\b.*\b(?:document|project|scenes?|video|timeline|json|list)\b|"
    r"\bwhat(?:'s| is)\b.*\b(?:document|project|scenes?|video|timeline|list|title|background)\b|"
    r"\bhow (?:long|many)\b.*\b(?:video|scenes?|document)\b"
)
_WANTS_A_CHANGE = _pattern(
    r"^\s*(?:please\s+)?(?:(?:can|could|would) you\s+)?(?:please\s+)?(?:add|change|set|make|remove|delete|swap|"
    r"rename|move|update|insert|edit)\b"
)

Reply = Callable[[re.Match[str], str], str]

_REPLIES: Final[tuple[tuple[re.Pattern[str], Reply], ...]] = (
    (_pattern(r"^\s*(?:repeat after me|say|echo|repeat)\s*:?\s+(?P<text>.+)$"), _echo),
    (_pattern(r"\bcount\b.*?\bto\s+(?P<last>\d{1,6})\b"), _count),
    (
        _pattern(
            r"^\s*(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|greetings)(?:\s+(?:there|you|again|"
            r"everyone))?\W*$"
        ),
        _greeting,
    ),
    (_pattern(r"^\s*(?:thanks|thank you|thx|cheers|great|perfect|nice|cool|wonderful)\b[^?]{0,40}$"), _thanks),
    (_pattern(r"^\s*(?:bye|goodbye|see you|good night)\b"), _farewell),
    (_pattern(r"\bhow are you\b"), _how_are_you),
    (
        _pattern(
            r"\b(?:who|what) are you\b|\byour name\b|\bare you (?:a )?(?:real|human|gpt|chatgpt|ai)\b|\bwhich model\b"
        ),
        _identity,
    ),
    (_pattern(r"\b(?:tell|write|make|give|invent)\b.*\bstory\b|^\s*(?:a |another )?story\b"), _story),
    (_pattern(r"\b(?:poem|haiku|verse|sonnet)\b"), _poem),
    (
        _pattern(
            r"\b(?:write|show|give)\b.*\b(?:code|function|program|snippet|class)\b|\bcode (?:block|example)\b|"
            r"\bin (?:python|javascript|typescript)\b"
        ),
        _code,
    ),
    (_pattern(r"\b(?:ideas?|suggestions?|brainstorm|tips)\b"), _list_of_ideas),
)
