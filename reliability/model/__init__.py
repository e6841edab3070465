"""The state machines that Hypothesis drives, and the walk through the supervisor's table, at the gate's size.

They are tests like all others, and run small with them; here they go further.
"""
