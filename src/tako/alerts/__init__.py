"""Telling people who are not looking: a webhook, a command, a mail. One cause is one message, however often it strikes.

`alert.py` is what is told, `grouping.py` when, `channels.py` how, and `alerter.py` does it: `tell` returns at once, a
delivery that fails is tried again a few times, and one that never succeeds is itself a problem that is shown.
"""
