"""Deploys on a real box: a bare Debian with systemd and sshd, Caddy and an ACME server, under load all the time.

The laptop's side is `tako` as a process, over SSH. The load comes from outside, by https with checked certificates:
pages, uploads, slow answers, websockets, and orders, each of which enqueues a run of several steps. Meanwhile releases
are deployed and taken back, the daemon is killed in every phase, and the power is cut. Then the books must balance: no
request failed, each acknowledged order has one run, which succeeded, and no step that had been saved was done again.

Needs what the boxes of `tests/support/box.py` need: root, systemd-nspawn, debootstrap, pebble.
"""
