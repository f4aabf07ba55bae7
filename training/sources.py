r"""Readers of the text the demonstration model is trained and evaluated on; each yields `Section`s.

Everything is under a free licence and installs from Debian (no download happens here):

    apt-get install python3-doc perl-doc wordnet-base dict-foldoc git-doc postgresql-doc-15 debian-handbook \
        debian-policy

| Source                     | Package               | Licence                          |
|----------------------------|-----------------------|----------------------------------|
| Python documentation, FAQ  | python3-doc           | PSF-2.0                          |
| Standard-library docstrings| (Python itself)       | PSF-2.0                          |
| Perl FAQ and manual pages  | perl-doc              | Artistic or GPL-1+               |
| WordNet 3.0                | wordnet-base          | WordNet licence                  |
| Dictionary of Computing    | dict-foldoc           | GFDL-1.1+                        |
| Git documentation          | git-doc               | GPL-2                            |
| PostgreSQL documentation   | postgresql-doc        | PostgreSQL licence               |
| Debian Administrator's H.  | debian-handbook       | GPL-2+ or CC-BY-SA-3.0           |
| Debian policy              | debian-policy         | GPL-2+                           |
"""

import gzip
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

PYTHON_HTML = Path("/usr/share/doc/python3-dev/html")
HTML_TREES = {
    "python": PYTHON_HTML,
    "git": Path("/usr/share/doc/git/html"),
    "postgresql": Path("/usr/share/doc/postgresql-doc-15/html"),
    "handbook": Path("/usr/share/doc/debian-handbook/html/en-US"),
    "policy": Path("/usr/share/doc/debian-policy"),
}
PERL_PODS = Path("/usr/share/perl/5.36/pod")
WORDNET = Path("/usr/share/wordnet")
FOLDOC = Path("/usr/share/dictd/foldoc.dict.dz")


@dataclass(frozen=True)
class Section:
    """What stands under one heading. `page` is the document's own title; hold-outs are made by whole `group`s."""

    source: str
    group: str
    page: str
    title: str
    paragraphs: tuple[str, ...]


class _SectionParser(HTMLParser):
    """Collects (heading, paragraphs) pairs from a documentation page; listings keep their line breaks."""

    BLOCKS = frozenset(["p", "li", "dt", "dd", "pre", "td", "th", "div", "ul", "ol", "dl", "table", "section", "tr"])
    HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])
    SKIPPED_TAGS = frozenset(["script", "style", "head", "nav", "footer"])
    SKIPPED_CLASSES = re.compile(r"\b(sphinxsidebar|related|footer|navheader|navfooter|toc|headerlink|docnav)(?![\w-])")
    VOID = frozenset(["br", "hr", "img", "meta", "link", "input", "col", "area", "wbr"])

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[tuple[str, list[str]]] = [("", [])]
        self._text: list[str] = []
        self._signature = False  # inside the <dt> that names a function, class or constant
        self._open: list[tuple[str, bool]] = []  # the tags that are open here, and whether each hides its content

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.VOID:
            return
        if tag in self.BLOCKS or tag in self.HEADINGS:
            self._flush()
        classes = dict(attrs).get("class") or ""
        self._signature |= tag == "dt" and classes.startswith("sig ")
        self._open.append((tag, tag in self.SKIPPED_TAGS or self.SKIPPED_CLASSES.search(classes) is not None))

    def handle_endtag(self, tag: str) -> None:
        if tag not in (name for name, _ in self._open):
            return
        is_signature = tag == "dt" and self._signature
        if tag in self.HEADINGS or is_signature:
            self._signature = False
            title = " ".join("".join(self._text).split()).rstrip("¶")
            self._text.clear()
            if not self._hidden():
                self.sections.append((re.sub(r"^(Chapter )?[\dA-Z]+(\.\d+)*\. +", "", title), []))
        elif tag in self.BLOCKS:
            self._flush()
        while self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._hidden():
            self._text.append(data)

    def _hidden(self) -> bool:
        return any(hides for _, hides in self._open)

    def _flush(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        is_listing = any(tag == "pre" for tag, _ in self._open)
        text = text.strip("\n").rstrip() if is_listing else " ".join(text.split()).rstrip("¶")
        if text.strip():
            self.sections[-1][1].append(text)


def html_page(path: Path, source: str, group: str) -> Iterator[Section]:
    """The sections of one page of documentation."""
    parser = _SectionParser()
    parser.feed(path.read_text(encoding="utf-8", errors="replace"))
    parser.close()
    titled = [(title, paragraphs) for title, paragraphs in parser.sections if title]
    page = titled[0][0] if titled else group
    for title, paragraphs in titled:
        if paragraphs:
            yield Section(source, group, page, title, tuple(paragraphs))


def html_tree(source: str) -> Iterator[Section]:
    """All pages of one installed manual except indexes; a group is a page."""
    root = HTML_TREES[source]
    for path in sorted(root.rglob("*.html")):
        name = str(path.relative_to(root))
        if path.is_file() and not re.search(
            r"genindex|search\.html|contents\.html|py-modindex|bookindex|release-\d|changelog|ix01", name
        ):
            yield from html_page(path, source, f"{source}/{name}")


def python_faq() -> Iterator[Section]:
    """Python's own FAQ: the title is the question, the paragraphs are its answer."""
    for path in sorted((PYTHON_HTML / "faq").glob("*.html")):
        for section in html_page(path, "python-faq", f"faq/{path.stem}"):
            if section.title.endswith("?") or re.match(r"(How|Why|What|Is|Are|Can|My|I |Where|When)\b", section.title):
                yield section


def perl_pods() -> Iterator[Section]:
    """Perl's FAQ (`perlfaq1` to `perlfaq9`) and manual, without the lists of changes; a group is a file."""
    for path in sorted(PERL_PODS.glob("*.pod")):
        if re.search(r"delta|perltoc|perlhist|perluniprops", path.stem):
            continue
        page, title, paragraphs = path.stem, path.stem, list[str]()
        for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            command = re.match(r"=(\w+)\s*(.*)", block, re.S)
            if command and command[1].startswith("head"):
                if paragraphs:
                    yield Section("perl", f"perl/{path.stem}", page, title, tuple(paragraphs))
                title, paragraphs = _plain_pod(command[2]), []
            elif command and command[1] == "item":
                paragraphs.append(_plain_pod(command[2]))
            elif not command and block.strip():
                paragraphs.append(block.rstrip() if block.startswith((" ", "\t")) else _plain_pod(block))
        if paragraphs:
            yield Section("perl", f"perl/{path.stem}", page, title, tuple(paragraphs))


def _plain_pod(text: str) -> str:
    for _ in range(4):  # marks nest: inner ones first
        text = re.sub(r"[EXZ]<[^<>]*>", "", text)
        text = re.sub(r"L<(?:([^<>|]*)\|)?([^<>|]*)>", lambda link: link[1] or link[2], text)
        text = re.sub(r"[A-KM-Z]<+ ?([^<>]*?) ?>+", r"\1", text)
    return " ".join(text.split())


def docstrings() -> Iterator[Section]:
    """Docstrings of the standard library's public functions and classes; the title is the dotted name."""
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in {"antigravity", "this", "idlelib", "lib2to3", "turtledemo"}:
            continue
        try:
            module = __import__(name)
        except (ImportError, OSError, AttributeError, RuntimeError):  # a module of another platform
            continue
        for attribute, value in sorted(vars(module).items()):
            is_ours = getattr(value, "__module__", None) == name and not attribute.startswith("_")
            if is_ours and (inspect.isclass(value) or inspect.isroutine(value)):
                owners = [(f"{name}.{attribute}", value)]
                if inspect.isclass(value):
                    methods = sorted((key, method) for key, method in vars(value).items() if not key.startswith("_"))
                    owners += [(f"{name}.{attribute}.{key}", method) for key, method in methods]
                for title, owner in owners:
                    text = inspect.getdoc(owner) if not isinstance(owner, type) or owner is value else None
                    if text and len(text.split()) > 8 and text.isascii():
                        paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", text))
                        yield Section("docstrings", f"docstrings/{name}", name, title, tuple(paragraphs))


def wordnet() -> Iterator[tuple[list[str], str, list[str]]]:
    """Every synset: its words (underscores read as spaces), its definition, its example sentences."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):
                continue
            record, gloss = line.split(" | ", 1)
            fields = record.split()
            count = int(fields[3], 16)
            words = [re.sub(r"\(\w+\)$", "", fields[4 + 2 * i]).replace("_", " ") for i in range(count)]
            examples = re.findall(r'"([^"]+)"', gloss)
            yield words, gloss.split('; "')[0].strip(), examples


def synonyms() -> dict[str, list[str]]:
    """Single-word synonyms by word: the other members of the most frequent sense of each part of speech."""
    table: dict[str, list[str]] = {}
    for part in ("noun", "verb", "adj", "adv"):
        synsets = {}
        for line in (WORDNET / f"data.{part}").read_text(encoding="utf-8").splitlines():
            fields = line.split(" ")
            if fields[0]:
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                synsets[fields[0]] = [re.sub(r"\(\w+\)$", "", word).lower() for word in words]
        for line in (WORDNET / f"index.{part}").read_text(encoding="utf-8").splitlines():
            fields = line.split()
            if line.startswith(" ") or not fields[0].isalpha():
                continue
            tagged = int(fields[5 + int(fields[3])])  # how many senses were met in annotated text; they come first
            if tagged:
                first = synsets[fields[6 + int(fields[3])]]
                table.setdefault(fields[0], []).extend(w for w in first if w.isalpha() and w != fields[0])
    return {word: list(dict.fromkeys(others))[:4] for word, others in table.items() if others}


def foldoc() -> Iterator[Section]:
    """The Free On-line Dictionary of Computing: the title is the term."""
    with gzip.open(FOLDOC, "rt", encoding="utf-8", errors="replace") as file:
        text = file.read()
    for entry in re.split(r"\n(?=\S)", text):
        term, _, body = entry.partition("\n")
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", body)]
        paragraphs = [re.sub(r"[{}]", "", p) for p in paragraphs if p and not re.fullmatch(r"\(?\d{4}-\d\d-\d\d\)?", p)]
        if paragraphs and not term.startswith("00-database"):
            yield Section("foldoc", f"foldoc/{term[:1].lower()}", term, term.strip(), tuple(paragraphs))
