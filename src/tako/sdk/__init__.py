"""What app code touches: @workflow, contexts, handles of runs, secrets. Cold: it loads in every app and worker.

`workflow.py` is where to begin; `codecs.py` says what stored values look like; `runtime.py` finds the engine.
"""
