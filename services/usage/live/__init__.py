"""Live views: windows in memory over the newest events, in a process of their own, with Faust.

Nothing here is a record. What is lost is derived again from the log at the next start; money is
counted elsewhere.
"""
