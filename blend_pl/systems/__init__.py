"""LightningModules: students, teachers and systems of several sessions."""

from blend_pl.systems.base import NeuralSystem
from blend_pl.systems.generative import GenerativeTeacher
from blend_pl.systems.multi_session import (
    LFPDecoder,
    LFPStudent,
    MultiSessionSystem,
    SingleSessionStudent,
    SingleSessionTeacher,
    SpikeTeacher,
)
from blend_pl.systems.multimodal import Multimodal
from blend_pl.systems.population import PopulationSystem
from blend_pl.systems.student import Student
from blend_pl.systems.teacher import Teacher

__all__ = [
    "GenerativeTeacher",
    "LFPDecoder",
    "LFPStudent",
    "MultiSessionSystem",
    "Multimodal",
    "NeuralSystem",
    "PopulationSystem",
    "SingleSessionStudent",
    "SingleSessionTeacher",
    "SpikeTeacher",
    "Student",
    "Teacher",
]
