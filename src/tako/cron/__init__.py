"""Schedules: when they are due, and the run that each due time makes. Sits on the engine and knows no worker."""
