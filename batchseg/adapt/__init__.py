"""Changing a bundle for a purpose: tuning, quantising and adjusting it, on tiles of a real scene."""
