"""The Python language reference, which comes with every Python, cut into passages to retrieve and rerank.

`pydoc_data.topics` maps a topic ("assignment", "with", "formatstrings") to a few kilobytes of text: headings underlined
with punctuation, paragraphs wrapped at 70 columns, indented grammar and code. Several topics repeat each other
("compound" has all of "if", "for" and "try"): a paragraph is used once, for the shortest topic that has it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

_UNDERLINE = re.compile(r"([*=\-~^\"])\1{2,}")
_RUBRIC = re.compile(r"-\[ (?P<title>.+) \]-")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z\"“*(])")

ENOUGH_WORDS = 20  # a passage this long is closed as soon as its paragraph ends
MOST_WORDS = 120  # a longer paragraph is cut between sentences, a longer listing between lines
WRAP_COLUMN = 66  # the text is wrapped at 70 columns, or a little earlier if a word could be hyphenated


@dataclass(frozen=True)
class Passage:
    """A few sentences under one heading.

    `topic` is the key in `pydoc_data.topics`, `title` the nearest heading above, `text` the passage without its
    heading: prose unwrapped to one line a paragraph, code and grammar with their line breaks.
    """

    topic: str
    title: str
    text: str


def language_reference() -> list[Passage]:
    """All passages, by topic in alphabetical order and in reading order within a topic; the same list on every call."""
    from pydoc_data.topics import topics

    return split_topics(topics)


def split_topics(topics: dict[str, str]) -> list[Passage]:
    """Cut every topic's text into passages; text that several topics share goes to the shortest of them."""
    seen: set[str] = set()
    by_topic = {}
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        by_topic[topic] = list(_passages(topic, topics[topic], seen))
    return [passage for topic in sorted(by_topic) for passage in by_topic[topic]]


def _passages(topic: str, text: str, seen: set[str]) -> Iterator[Passage]:
    for title, blocks in _sections(text):
        paragraphs = [content for content in map(_unwrap, blocks) if content not in seen]
        seen.update(paragraphs)
        for text in join_paragraphs(paragraphs):
            yield Passage(topic, title or topic, text)


def _sections(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Each heading with the blocks below it; a block is the run of lines between two blank ones."""
    title = ""
    blocks: list[list[str]] = []
    block: list[str] = []
    lines = [*text.expandtabs().splitlines(), ""]
    skip_underline = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if skip_underline:
            skip_underline = False
            continue
        rubric = _RUBRIC.fullmatch(line.strip())
        underlined = bool(line.strip()) and not block and _UNDERLINE.fullmatch(following.strip()) is not None
        if line.strip() and not rubric and not underlined:
            block.append(line.rstrip())
            continue
        if block:
            blocks.append(block)
            block = []
        if rubric or underlined:
            if blocks:
                yield title, blocks
            title, blocks = (rubric["title"] if rubric else line.strip()), []
            skip_underline = underlined
    if blocks:
        yield title, blocks


def _unwrap(block: list[str]) -> str:
    """Prose on one line, below its term if it defines one; a listing (grammar, a session) with its lines kept."""
    if block[0].lstrip().startswith("+-"):
        return _table(block)
    margins = [len(line) - len(line.lstrip()) for line in block]
    margin = min(margins)
    bullet = re.match(r"[*\-] |\d+\. |\[\d+\] ", block[0].lstrip())
    hanging = margins[0] + len(bullet[0]) if bullet else margins[0]
    is_code = re.search(r"::=|>>>", "\n".join(block)) is not None
    if not is_code and all(m == hanging for m in margins[1:]) and _is_filled(block):
        return _prose(block)
    if not is_code and len(set(margins[1:])) == 1 and margins[1] > margins[0] and _is_filled(block[1:]):
        return f"{_prose(block[:1])}\n{_prose(block[1:])}"
    return "\n".join(line[margin:] for line in block)


def _table(block: list[str]) -> str:
    """A table drawn with `+--` and `|`, as one line a row: the cells' words between bars."""
    rows: list[list[list[str]]] = [[]]
    for line in (line.strip() for line in block):
        if re.match(r"[+|][-=]+[+|]", line):
            rows.append([])
        else:
            rows[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
    joined = ([" ".join(filter(None, cells)) for cells in zip_longest(*row, fillvalue="")] for row in rows)
    return "\n".join(" ".join(" | ".join(filter(None, cells)).split()) for cells in joined if any(cells))


def _is_filled(lines: list[str]) -> bool:
    """Whether each line ends where the next word did not fit any more, as it does in wrapped prose but not in code."""
    following = (re.split(r"(?<=\w)[-—]|\s", line.lstrip(), maxsplit=1)[0] for line in lines[1:])
    return all(len(line) + len(word) >= WRAP_COLUMN for line, word in zip(lines[:-1], following, strict=True))


def _prose(lines: list[str]) -> str:
    # A line may end with "built-" and the next begin with "in".
    text = re.sub(r"(?<=[a-z])-\n\s*(?=[a-z])", "-", "\n".join(lines))
    return " ".join(text.split())


def _cut(content: str) -> list[str]:
    """Split a block of more than MOST_WORDS between sentences or lines, into parts of about equal length."""
    words = len(content.split())
    if words <= MOST_WORDS:
        return [content]
    is_listing = "\n" in content
    units = content.split("\n") if is_listing else _SENTENCE_END.split(content)
    wanted = words / -(-words // MOST_WORDS)
    parts: list[list[str]] = [[]]
    for unit in units:
        if parts[-1] and _words(parts[-1]) + len(unit.split()) / 2 > wanted:
            parts.append([])
        parts[-1].append(unit)
    return [("\n" if is_listing else " ").join(part) for part in parts]


def join_paragraphs(paragraphs: list[str]) -> list[str]:
    """Cut the long paragraphs under one heading and join the short ones, into passages of a sensible size.

    A piece that announces the next (it ends with a colon, or is a bare signature) is never the last of its passage
    unless it is the last of its section. A short remainder, or a note on versions, joins the passage before it.
    """
    groups: list[list[str]] = []
    open_group: list[str] = []
    for piece in (piece for paragraph in paragraphs for piece in _cut(paragraph)):
        is_note = re.match(r"(New|Changed|Added) in version|Deprecated since|See also", piece) is not None
        if is_note and groups and not open_group and _words([*groups[-1], piece]) <= MOST_WORDS:
            groups[-1].append(piece)
            continue
        if open_group and _words([*open_group, piece]) > MOST_WORDS and _words(open_group) >= ENOUGH_WORDS // 2:
            groups.append(open_group)
            open_group = []
        open_group.append(piece)
        if _words(open_group) >= ENOUGH_WORDS and not _announces(piece):
            groups.append(open_group)
            open_group = []
    if open_group:
        if groups and _words(open_group) < ENOUGH_WORDS // 2 and _words([*groups[-1], *open_group]) <= MOST_WORDS:
            groups[-1].extend(open_group)
        else:
            groups.append(open_group)
    return ["\n".join(group) for group in groups]


def _announces(piece: str) -> bool:
    return piece.endswith(":") or re.fullmatch(r"[\w.]+\(.*\)", piece) is not None


def _words(pieces: list[str]) -> int:
    return sum(len(piece.split()) for piece in pieces)
