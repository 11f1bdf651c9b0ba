"""The errors of private servers.

StackError(RuntimeError)
├── ServerUnavailable    a program or package that it needs is not installed
└── ServerFailed         it did not start, ended early or refused a command
"""

from __future__ import annotations


class StackError(RuntimeError):
    """The root of every error of this package."""


class ServerUnavailable(StackError):
    """A program or package that a server needs is not on this machine.

    Attributes:
        program: The missing program or package.
        remedy: A command that installs it.
    """

    def __init__(self, program: str, remedy: str) -> None:
        super().__init__(program, remedy)
        self.program = program
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.program} is not installed; to get it: {self.remedy}"


class ServerFailed(StackError):
    """A server did not start, ended too early or refused a command.

    Attributes:
        server: The name of the process.
        reason: The failure, as a predicate.
        log_tail: The last lines of its log.
    """

    def __init__(self, server: str, reason: str, log_tail: str) -> None:
        super().__init__(server, reason, log_tail)
        self.server = server
        self.reason = reason
        self.log_tail = log_tail

    def __str__(self) -> str:
        return f"{self.server} {self.reason}; the last lines of its log:\n{self.log_tail}"
