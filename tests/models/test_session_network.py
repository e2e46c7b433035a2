"""Sizes of networks of several sessions."""

from blend_pl.models.session_network import SessionDims


def test_sizes_are_maximum_over_sessions() -> None:
    dims = SessionDims.from_sessions({"a": 3, "b": 8}, bins=20)
    assert (dims.channels, dims.neurons, dims.bins, dims.context) == (8, 8, 20, 0)
    assert dims.for_session("a") == SessionDims.from_sessions({"a": 3}, 20)
