"""What a run writes down about itself: keys, records, stints, and where its seconds went."""
