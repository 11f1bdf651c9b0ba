"""Each blocking call has a limit, or a comment that says why it can't hang."""

from __future__ import annotations

from pathlib import Path

import pytest

import fanout

from .waits import unlimited_waits

# Where the library is installed, which may be elsewhere than the tests.
ROOT = Path(fanout.__file__).parents[1]
MODULES = [path for package in ("fanout", "storage") for path in sorted((ROOT / package).rglob("*.py"))]


def test_every_wait_has_a_limit() -> None:
    """A call that may wait for ever takes a timeout, or has `# no limit: <why it cannot hang>` in the line above."""
    found = [
        f"{path.relative_to(ROOT)}:{wait.line}: {wait.code} {wait.why}"
        for path in MODULES
        for wait in unlimited_waits(path.read_text())
    ]
    remedy = "give each a limit, or say on the line above why it can't hang: # no limit: <why>"
    assert not found, "\n".join([remedy, *found])


def test_the_important_modules_are_checked() -> None:
    """The modules with the most important waits are among those that are checked."""
    names = {str(path.relative_to(ROOT)) for path in MODULES}
    assert {
        "fanout/waiting/steps.py",
        "fanout/engines/celery/dispatcher.py",
        "storage/s3/boto3_store.py",
        "storage/packs.py",
    } <= names


@pytest.mark.parametrize(
    "code",
    [
        "connection.drain_events()",
        "self._channel.connection.drain_events()",
        "channel.confirm_select()",
        "connection.channel()",
        "app.producer_or_acquire()",
        "producer.publish(body)",
        "app.send_task(name, args)",
        "super().apply_async(args, kwargs, task_id=task_id)",
        "connection.ensure_connection()",
        "pubsub.get_message()",
        "event.wait()",
        "event.wait(None)",
        "event.wait(timeout=None)",
        "condition.wait_for(ready)",
        "barrier.wait()",
        "thread.join()",
        "process.wait()",
        "process.communicate()",
        "lock.acquire()",
        "lock.acquire(True)",
        "queue.get()",
        "queue.get(block=True)",
        "future.result()",
        "future.exception()",
        "wait(futures)",
        "concurrent.futures.wait(futures, return_when=FIRST_COMPLETED)",
        "for future in as_completed(futures): pass",
        "executor.map(work, items)",
        "executor.shutdown()",
        "executor.shutdown(wait=True)",
        "with ThreadPoolExecutor(4) as pool: pool.submit(work)",
        "subprocess.run(command)",
        "subprocess.check_output(command)",
        "select.select(readers, [], [])",
        "selector.select()",
        "socket.create_connection(address)",
        "connection.recv(4096)",
        "listener.accept()",
        "urlopen(address)",
        "HTTPConnection(host)",
        "requests.get(address)",
        "os.waitpid(pid, 0)",
        "fcntl.flock(file, fcntl.LOCK_EX)",
        "while True: time.sleep(1)",
        "while not ready(): time.sleep(1)",
        "while unconfirmed: connection.drain_events(timeout=1)",
        "while running: wait(running, timeout=5)",
        "queue.get()  # no limit:",
        "queue.get()  # it has no limit",
        "queue.get()\n# no limit: it is below the line",
    ],
)
def test_a_wait_without_a_limit_is_found(code: str) -> None:
    """Each kind of wait is found in any place. A comment without a reason excuses no wait."""
    assert len(unlimited_waits(code)) == 1
    inside = "def f(self):\n    if x:\n" + "\n".join(f"        {line}" for line in code.splitlines())
    assert len(unlimited_waits(inside)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "connection.drain_events(timeout=1)",
        "app.send_task(name, args, timeout=5, confirm_timeout=5)",
        "app.send_task(name, args, **options)",
        "connection.ensure_connection(max_retries=3)",
        "event.wait(5)",
        "event.wait(timeout_s)",
        "condition.wait_for(ready, 5)",
        "thread.join(timeout=5)",
        "', '.join(names)",
        "path.joinpath(name)",
        "lock.acquire(timeout=5)",
        "lock.acquire(False)",
        "lock.acquire(blocking=False)",
        "settings.get(name)",
        "settings.get(name, None)",
        "queue.get(timeout=5)",
        "queue.get(block=False)",
        "queue.get_nowait()",
        "future.result(5)",
        "future.result(timeout=left_s)",
        "wait(futures, 5)",
        "wait(futures, timeout=5)",
        "as_completed(futures, timeout=5)",
        "list(map(work, items))",
        "executor.map(work, items, timeout=5)",
        "executor.shutdown(wait=False)",
        "sock.shutdown(socket.SHUT_RDWR)",
        "subprocess.run(command, timeout=5)",
        "select.select(readers, [], [], 1.0)",
        "socket.create_connection(address, 5)",
        "os.waitpid(pid, os.WNOHANG)",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "time.sleep(1)",
        "while time.monotonic() < deadline: time.sleep(1)",
        "for attempt in range(8): time.sleep(1)",
        "LIMIT = ContextVar('limit')\nLIMIT.get()",
        "with lock: pass",
        "# no limit: its starter ends it\nqueue.get()",
        "queue.get()  # no limit: this thread is its only user",
        "queue.get(\n)  # no limit: this thread is its only user",
    ],
)
def test_a_limited_wait_is_accepted(code: str) -> None:
    """A wait with a limit, a call that does not wait, and a wait with a reason are accepted."""
    assert unlimited_waits(code) == []


def test_a_socket_may_have_its_own_limit() -> None:
    """A function that reads a socket must call `settimeout`."""
    read = "def f(sock):\n    {}\n    return sock.recv(1)"
    assert unlimited_waits(read.format("sock.settimeout(5)")) == []
    assert len(unlimited_waits(read.format("pass"))) == 1
