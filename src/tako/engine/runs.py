"""The rules of a run by name; each is told in the file it comes from.

Every rule takes the store first, runs inside its caller's transaction, and has no clock and no chance of its own. It
raises a TakoError only before its first write, so that many callers can share a transaction.
"""

from tako.engine.claims import claim, next_due_ms, promote_due
from tako.engine.endings import Finished, finish, withdraw
from tako.engine.events import Held
from tako.engine.guard import held, stale
from tako.engine.intake import check, enqueue, unfinished
from tako.engine.interventions import ack, cancel, retry
from tako.engine.steps import load as load_steps
from tako.engine.together import enqueue_all, finish_all, save_all

__all__ = [
    "Finished",
    "Held",
    "ack",
    "cancel",
    "check",
    "claim",
    "enqueue",
    "enqueue_all",
    "finish",
    "finish_all",
    "held",
    "load_steps",
    "next_due_ms",
    "promote_due",
    "retry",
    "save_all",
    "stale",
    "unfinished",
    "withdraw",
]
