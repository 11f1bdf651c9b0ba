"""The packages as their users meet them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fanout
from fanout import errors


def python(code: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=False)


def test_every_exported_name_exists() -> None:
    """Each name in `__all__` exists, and `__all__` has every error that a caller may catch."""
    assert all(hasattr(fanout, name) for name in fanout.__all__)
    public = {name for name, value in vars(errors).items() if isinstance(value, type) and name[0] != "_"}
    raised = {name for name in public if getattr(errors, name).__module__ == "fanout.errors"}
    assert raised <= set(fanout.__all__), "every error that a caller may catch is exported"


def test_import_of_fanout_imports_no_celery_and_no_boto3(tmp_path: Path) -> None:
    """Importing fanout imports neither Celery nor boto3, so that a task's module can be imported anywhere."""
    run = python("import sys, fanout; print(sorted({'celery', 'kombu', 'boto3'} & sys.modules.keys()))", cwd=tmp_path)
    assert run.stdout == "[]\n", run.stderr


def test_a_module_that_hides_storage_is_reported(tmp_path: Path) -> None:
    """If another module named `storage` hides fanout's, the error has its path and the remedy."""
    (tmp_path / "storage.py").write_text("")
    run = python("import fanout", cwd=tmp_path)
    assert run.returncode != 0
    assert str(tmp_path / "storage.py") in run.stderr
    assert "Rename that module" in run.stderr


def test_the_celery_engine_needs_no_redis() -> None:
    """An app on RabbitMQ without a result backend works if the package redis is not installed."""
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "import celery, fanout\n"
        "app = fanout.connect(celery.Celery(set_as_current=False), store='memory://x')\n"
        "from fanout.engines.celery.listener import listener_for\n"
        "with listener_for(app, 'job') as listener: assert not listener.notifies\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(fanout.__file__).parents[1])
