"""Hostile input: bytes and messages that nobody sends on purpose, thrown at everything that reads them.

`targets` are functions of bytes, one for each reader: framing, HTTP heads, `tako.toml`, `.env`, secrets, cron lines,
durations, envelopes, stored JSON, what processes print. Each says what must be true of any input: it is read, or
refused by an error of ours that names the place; never a traceback, a hang, or a byte taken twice. `engine` is the real
engine in a process of its own, `messages` what is sent to its socket, `siege` sends it and watches the others' latency.

`corpus/TARGET` keeps what once broke something; every run begins with it.
"""
