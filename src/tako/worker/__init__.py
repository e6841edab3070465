"""The runtime in a worker process: boot, claim, run, report. Cold: what loads here is paid by every start from zero."""
