"""The engine: recipe, plan, scenes, models, run state and outputs. Never Ray."""
