"""The other systems, a file each. Each file runs in a virtual environment of its own and imports only `common`."""
