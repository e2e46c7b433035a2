"""Digests of the parts of a recording, which share the digest of the recording."""

_SEPARATOR = "-"


def join_digests(shared: str, individual: str) -> str:
    """Returns the digest of a part of a recording, which begins with the digest that all parts share.

    Example:
        >>> join_digests("08d1", "f44a")
        '08d1-f44a'
    """
    return f"{shared}{_SEPARATOR}{individual}"


def shared_digest(digest: str) -> str:
    """Returns the part of a digest that all parts of a recording share; the whole digest if it has one part.

    Example:
        >>> shared_digest("08d1-f44a"), shared_digest("08d1")
        ('08d1', '08d1')
    """
    return digest.partition(_SEPARATOR)[0]
