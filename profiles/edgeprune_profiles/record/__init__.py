"""What a report holds: typed records, statistics, quantities, and files written whole."""
