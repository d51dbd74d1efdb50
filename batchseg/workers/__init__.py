"""Who does it: workers, their pools and what becomes of a task."""
