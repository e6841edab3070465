"""Imported by workers, and not by whoever enqueues: what a release lacks on one machine and has on another."""
