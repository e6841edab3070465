"""What an app's folder holds, found without importing any of it: workflow files, their groups, a fingerprint.

Nothing here runs the user's code. The truth about workflows is what a worker says in HELLO; what stands here is what
the daemon needs before there is one: which files a group's worker must import, and whether the code has changed.
"""
