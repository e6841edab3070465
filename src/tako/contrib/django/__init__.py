"""For Django: `"tako.contrib.django"` in INSTALLED_APPS.

- `apps.py`: what that one line sets up.
- `outbox.py`: enqueues inside `atomic()` are written in the same transaction and sent after its commit.
- `connections.py`: database connections are given back around handlers and steps.
- `bridge.py`: in tests, queries of async handlers reach the connection of the test.
- `middleware.py`: a refused enqueue is answered with 503.
- `tasks.py`: a backend for `django.tasks`, where Django has it.
"""
