"""A run's notes about itself: keys, records, stints, sessions, the lease, and the time of its workers."""
