"""Log lines on their way to people: `hub` hands them out, `files` keeps them, `render` makes them text.

A line is a `protocol.messages.LogLine`. It is made safe in two places: secrets are taken out when it is published
(`redact`), so that no ring, file or subscriber ever holds one; control characters are neutralised when it is shown
(`render`), so that what is stored is what was said.
"""
