"""A recipe resolved into a job: everything opened, checked and written down once."""
