"""LightningModules: the student, the teacher, which is a student plus privileged input, and those of many sessions."""

from blend_pl.systems.multi_session import (
    LFPDecoder,
    LFPStudent,
    SingleSessionStudent,
    SingleSessionTeacher,
    SpikeTeacher,
)
from blend_pl.systems.multimodal import Multimodal
from blend_pl.systems.student import Student
from blend_pl.systems.teacher import Teacher

__all__ = [
    "LFPDecoder",
    "LFPStudent",
    "Multimodal",
    "SingleSessionStudent",
    "SingleSessionTeacher",
    "SpikeTeacher",
    "Student",
    "Teacher",
]
