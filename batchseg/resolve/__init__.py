"""What a run is asked to do: a recipe resolved, checked and written down."""
