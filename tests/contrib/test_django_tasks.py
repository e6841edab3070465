"""The backend for django.tasks, in a process of its own. Collected where Django has tasks: from version 6 on."""

from __future__ import annotations

import re

import pytest

from tests.contrib.test_django import checks, run


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run("check_tasks.py", tmp_path_factory.mktemp("tasks"), project="django_tasks_project")


@pytest.mark.parametrize("name", checks("check_tasks.py", project="django_tasks_project"))
def test_tasks(tasks: str, name: str) -> None:
    assert re.search(rf"^PASSED check_tasks.py::{name}$", tasks, re.MULTILINE), tasks
