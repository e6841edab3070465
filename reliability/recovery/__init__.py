"""The recovery bounds of contract.md, table R: each fault caused many times, and how long until work goes on.

Times are read off ledgers that workers write with the machine's monotonic clock, which all processes share. B, the time
this app's workers need to boot, is measured in every sample (from the process's start, which the kernel knows, to the
first line of the handler), and how late a sleeping thread wakes up is measured beside it: on a busy machine both grow.
"""
