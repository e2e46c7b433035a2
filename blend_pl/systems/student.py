"""The student: predicts neural activity from neural activity."""

from blend_pl.systems.population import PopulationSystem


class Student(PopulationSystem):
    """Sees masked neural activity (BLEND); the privileged input of a batch never reaches its network."""
