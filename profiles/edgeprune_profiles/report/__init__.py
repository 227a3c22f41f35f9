"""Show records: text, tables, charts, one HTML page, comparisons."""
