"""A module whose task is declared wrong, for the tests of the command line."""

from fanout import ForkJoinTask


class WithoutSource(ForkJoinTask):
    """Its process takes an argument that neither the schema nor an item gives."""

    input_schema = {"documents": {"type": "not a type"}}

    def setup(documents):
        return [{"document": document} for document in documents]

    def process(document):
        return document

    def join(documents):
        return list(documents)
