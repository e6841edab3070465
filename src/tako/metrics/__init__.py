"""What happens in an engine, counted: for Prometheus (`exposition`) and for the charts of the dashboard (`ring`).

Counting is a few dictionary look-ups on the loop, and nothing is done while nothing happens. What can be asked of the
store when somebody wants to know it (how many runs are in which state) is asked then, and not counted here.
"""
