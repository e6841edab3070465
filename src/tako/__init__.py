"""Tako."""
