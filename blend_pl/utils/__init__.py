"""Helpers for files, processes, devices and distributed reduction."""
