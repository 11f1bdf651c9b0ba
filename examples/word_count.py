"""Word count: a useful task of few lines, as a class and from three functions.

    setup    yields one item per document
    process  counts the words of one document
    combine  adds counters on the workers; only the class has it
    join     adds the combined counters, at most 32 for any number of documents

The functions have no `combine`. Their `join` receives a counter per document and adds all of them.

Each step receives the parameters that it names: setup `documents`, process `delimiter`.

Run it without a server:

    python -m examples.word_count

Run it over Celery, with a worker of `examples.celery_app`:

    from examples.celery_app import app
    from examples.word_count import WordCounterTask
    WordCounterTask.submit({"documents": ["hi there you", "there you are"]}, app=app).get()
"""

# A task may lack annotations. A strict type checker needs these settings then.
# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

import email
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fanout import ForkJoinTask, fork_join


class WordCounterTask(ForkJoinTask):
    @classmethod
    def get_input_schema(cls):
        return {
            "documents": {"type": "list", "required": True, "schema": {"type": "string"}},
            "delimiter": {"type": "string"},
        }

    def setup(documents):
        return [{"document": d} for d in documents]

    def process(document, delimiter=" "):
        return Counter(document.split(delimiter))

    def combine(word_counters):
        total = Counter()
        for counter in word_counters:
            total.update(counter)
        return total

    def join(word_counters):
        return {"word_count": sum(word_counters, Counter())}


def split_documents(documents: list[str]) -> list[dict[str, str]]:
    return [{"document": document} for document in documents]


def count_words(document: str, delimiter: str = " ") -> Counter[str]:
    return Counter(document.split(delimiter))


def add_up(counters: Iterable[Counter[str]]) -> dict[str, Counter[str]]:
    return {"word_count": sum(counters, Counter())}


WordCount = fork_join(
    "examples.word_count",
    setup=split_documents,
    process=count_words,
    join=add_up,
    input_schema=WordCounterTask.get_input_schema(),
)
"""The same task from existing functions that do not depend on fanout."""


def count_serially(documents: Iterable[str], delimiter: str = " ") -> dict[str, Counter[str]]:
    """Count in one loop, without fanout."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(document.split(delimiter))
    return {"word_count": counts}


def main() -> None:
    """Count the words of some of Python's own modules, with both tasks."""
    modules = sorted(Path(email.__file__).parent.glob("*.py"))
    documents = [" ".join(module.read_text(encoding="utf-8").split()) for module in modules]
    as_class = WordCounterTask.run({"documents": documents}, executor="threads")
    as_functions = WordCount.run({"documents": documents})
    assert as_class == as_functions == count_serially(documents)
    counts = as_class["word_count"]
    print(f"{len(documents)} modules of Python's email package: {counts.total():,} words, {len(counts):,} different")
    for word, count in counts.most_common(8):
        print(f"{count:7,}  {word}")


if __name__ == "__main__":
    main()
