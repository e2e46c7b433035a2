"""LightningModules: the student, and the teacher, which is a student plus privileged input."""

from blend_pl.systems.student import Student
from blend_pl.systems.teacher import Teacher

__all__ = ["Student", "Teacher"]
