"""Helpers without a subject of the field: files, processes, devices, distributed reduction."""
