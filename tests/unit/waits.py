"""Finds calls that may wait for ever, in the source of a module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

EXCUSE = re.compile(r"# no limit: \S+ \S+ \S+")
"""A comment on the line of a wait, or on the line above it, that says why the wait needs no limit."""

LIMITS = frozenset({"timeout", "timeout_s", "confirm_timeout", "max_retries"})
"""Keyword arguments that limit a wait."""

_FUNCTIONS = {"wait": 2, "as_completed": 2, "create_connection": 2, "urlopen": 3}
"""Functions that wait -> number of the positional argument that is the limit, from 1."""

_METHODS = frozenset(
    {
        *("wait", "wait_for", "join", "acquire", "get", "result", "exception", "communicate", "select"),
        *("drain_events", "get_message", "ensure_connection", "producer_or_acquire", "connection_or_acquire"),
        *("map", "imap", "imap_unordered", "starmap", "shutdown", "accept", "recv", "recv_into", "recvfrom"),
        *("publish", "send_task", "apply_async", "confirm_select", "channel"),
    }
)
_OWNERS = {
    "channel": re.compile("connection"),
    "publish": re.compile("producer|channel", re.IGNORECASE),
    "apply_async": re.compile(r"^super\(|Task$"),
}
"""Methods that wait only if the expression they are called on matches."""

_SUBPROCESS = frozenset({"run", "call", "check_call", "check_output"})
_HTTP = frozenset({"HTTPConnection", "HTTPSConnection"})
_POOLS = frozenset({"ThreadPoolExecutor", "ProcessPoolExecutor"})
_SYSTEM = frozenset({"pause", "sigwait", "waitpid", "wait3", "wait4", "flock", "lockf"})
_REQUESTS = frozenset({"get", "post", "put", "head", "delete", "request"})
_BOUNDED = re.compile(r"\b(monotonic|deadline\w*|\w+_until|ends?_at|left_s|attempts?|tries)\b")
"""Names in a loop that limits its time or its number of turns."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A call that may wait for ever.

    Attributes:
        line: Number of the line, from 1.
        code: The call, shortened.
        why: The limit that is missing.
    """

    line: int
    code: str
    why: str


def unlimited_waits(source: str) -> list[Wait]:
    """Return the calls in a module that may wait for ever and have no comment that says why not, by line.

    A wait needs a limit. A limited wait inside a `while` loop also needs a loop that limits its time or its turns,
    because the limit of the wait begins anew with each turn. `with lock:` is allowed.
    """
    lines = source.splitlines()
    waits = [
        wait for node, wait in _waits(ast.parse(source)) if not _is_excused(lines, node.lineno, node.end_lineno or 0)
    ]
    return sorted(set(waits), key=lambda wait: (wait.line, wait.code))


def _is_excused(lines: list[str], first: int, last: int) -> bool:
    return any(EXCUSE.search(line) for line in lines[max(first - 2, 0) : max(last, first)])


def _waits(tree: ast.Module) -> Iterator[tuple[ast.expr, Wait]]:
    variables = {f"{name}.get" for name in _context_variables(tree)}
    for node, loops, function in _calls(tree, (), tree):
        if ast.unparse(node.func) in variables:
            continue
        why = _find_lack(node, function)
        # Each loop around the wait must end by itself.
        if why is None and _waits_at_all(node) and not all(_is_bounded(loop) for loop in loops):
            why = "its limit begins anew with each turn of a loop that counts neither time nor turns"
        if why:
            code = " ".join(ast.unparse(node).split())
            yield node, Wait(node.lineno, code[:80], why)


def _context_variables(tree: ast.Module) -> set[str]:
    """Return the names of the context variables of a module, whose `get` does not wait."""
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AnnAssign)]
    return {
        ast.unparse(target)
        for node in made
        if isinstance(node.value, ast.Call) and _name(node.value) == "ContextVar"
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }


def _calls(
    node: ast.AST, loops: tuple[ast.While, ...], function: ast.AST
) -> Iterator[tuple[ast.Call, tuple[ast.While, ...], ast.AST]]:
    """Yield every call, with the `while` loops and the function around it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        loops, function = (), node
    if isinstance(node, ast.While):
        loops = (*loops, node)
    if isinstance(node, ast.Call):
        yield node, loops, function
    if isinstance(node, ast.With):
        for item in node.items:
            if isinstance(item.context_expr, ast.Call) and _name(item.context_expr) in _POOLS:
                # The end of the block waits until the pool has done all its work.
                yield _leaving(item.context_expr), loops, function
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, loops, function)


def _leaving(pool: ast.Call) -> ast.Call:
    """Return the call that ends a `with` block of a pool, on the line that makes the pool."""
    method = ast.Attribute(value=pool, attr="shutdown", ctx=ast.Load())
    return ast.copy_location(ast.fix_missing_locations(ast.Call(func=method, args=[], keywords=[])), pool)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _owner(call: ast.Call) -> str:
    """Return the source of the expression before the dot of a call."""
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _is_limited(call: ast.Call) -> bool:
    """Return whether a keyword argument limits the wait; `**` counts as a limit."""
    return any(
        keyword.arg is None or (keyword.arg in LIMITS and not _is(keyword.value, None)) for keyword in call.keywords
    )


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _given(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _find_lack(call: ast.Call, function: ast.AST) -> str | None:
    """Return why a call may wait for ever; None if it ends by itself."""
    name, owner = _name(call), _owner(call)
    if _is_limited(call):
        return None
    if name in _FUNCTIONS and (not owner or owner.split(".")[-1] in ("futures", "socket", "request")):
        limit = _FUNCTIONS[name]
        is_given = len(call.args) >= limit and not _is(call.args[limit - 1], None)
        return None if is_given else "has no timeout"
    if owner == "subprocess" and name in _SUBPROCESS:
        return "has no timeout"
    if name in _HTTP or (owner == "requests" and name in _REQUESTS):
        return "has no timeout"
    if name in _SYSTEM and owner in ("os", "signal", "fcntl"):
        flags = " ".join(ast.unparse(argument) for argument in call.args)
        return None if "WNOHANG" in flags or "LOCK_NB" in flags or "LOCK_UN" in flags else "has no timeout"
    if name in _METHODS and isinstance(call.func, ast.Attribute):
        return _find_lack_of_method(call, name, owner, function)
    return None


def _find_lack_of_method(call: ast.Call, name: str, owner: str, function: ast.AST) -> str | None:
    none_given = all(_is(argument, None) for argument in (*call.args, *(keyword.value for keyword in call.keywords)))
    if name in ("wait", "join", "result", "exception", "communicate", "select"):
        if owner == "select":
            return None if len(call.args) >= 4 else "has no timeout"
        return "has no timeout" if none_given else None
    if name == "wait_for":
        return None if len(call.args) >= 2 else "has no timeout"
    if name in ("acquire", "get"):
        # A dict's get has an argument; a lock's acquire may be non-blocking.
        block = _given(call, "blocking") or _given(call, "block")
        waits = none_given or (len(call.args) == 1 and _is(call.args[0], True)) or (block and not _is(block, False))
        return "has no timeout" if waits else None
    if name == "shutdown":
        wait = _given(call, "wait")
        returns = (wait is not None and _is(wait, False)) or (call.args and not _is(call.args[0], True))
        return None if returns else "waits for all that the pool does"
    if name in ("map", "imap", "imap_unordered", "starmap"):
        return "has no timeout"
    if name in ("accept", "recv", "recv_into", "recvfrom"):
        return None if "settimeout(" in ast.unparse(function) else "reads a socket without settimeout"
    if name in _OWNERS and not _OWNERS[name].search(owner):
        return None
    return f"waits for the broker, and needs one of {', '.join(sorted(LIMITS))}"


def _waits_at_all(call: ast.Call) -> bool:
    """Return whether a limited call waits."""
    name = _name(call)
    if name == "sleep":
        return True
    if name in ("wait", "wait_for", "drain_events", "get_message", "communicate"):
        return True
    return name in ("join", "result", "acquire", "get") and _given(call, "timeout") is not None


def _is_bounded(loop: ast.While) -> bool:
    return bool(_BOUNDED.search(ast.unparse(loop)))
