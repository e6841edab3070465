"""Migrations of the app `tako`."""
