"""Whether a manifest holds together: its own numbers, its graphs against them, its files against its graphs.

A hash says that a file is the one that was sealed, not that what was sealed makes sense. Each check is a pure generator of faults, one
sentence part each, and may rely on those before it having found none.
"""
