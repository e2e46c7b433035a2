"""Layers and parts of networks that several backbones share."""
