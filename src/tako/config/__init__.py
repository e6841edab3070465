"""What `tako.toml` and `.env` say, checked to the last key.

`load.py` reads the file into the frozen dataclasses of `model.py`; `keys.py` is the table of every key and what it
takes; `positions.py` knows on which line each key stands; `example.toml` documents them all and is loaded by a test.
"""
