"""The moving part: operating system processes. `health.py` decides, `workers.py` carries out; no run is known here."""
