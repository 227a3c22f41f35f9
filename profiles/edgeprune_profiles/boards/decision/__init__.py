"""Which board and which budget to take: accuracy, the choice itself, and how it is said."""
