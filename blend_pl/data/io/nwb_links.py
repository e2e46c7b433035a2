"""Walk through the groups of an NWB file, through its soft and external links too."""

from collections.abc import Callable, Iterator

import h5py


def walk_groups(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    """Yields the path and the group of each group of a file, the linked ones too, in the order of their names.

    A group to which several links lead is yielded under each path, and its content under the first one. A link that
    cannot be followed is skipped; see `broken_links`.
    """
    yield from _walk(file, "", {_identity(file)})


def distinct_groups(file: h5py.File, is_match: Callable[[h5py.Group], bool]) -> list[tuple[h5py.Group, list[str]]]:
    """Returns the matching groups of a file, each once with all paths that lead to it."""
    matches: dict[tuple[int, int], tuple[h5py.Group, list[str]]] = {}
    for path, group in walk_groups(file):
        if is_match(group):
            matches.setdefault(_identity(group), (group, []))[1].append(path)
    return list(matches.values())


def paths_ending_with(name: str, groups: list[tuple[h5py.Group, list[str]]]) -> list[tuple[h5py.Group, str]]:
    """Returns the groups with a path whose last parts are the name, each with the first such path."""
    matches = [(group, [path for path in paths if f"/{path}".endswith(f"/{name}")]) for group, paths in groups]
    return [(group, paths[0]) for group, paths in matches if paths]


def broken_links(file: h5py.File) -> list[str]:
    """Returns the soft and external links that lead to no object, as "path -> target"."""
    return [
        f"{path}/{name}".removeprefix("/") + f" -> {_describe_target(link)}"
        for path, group in [("", file), *walk_groups(file)]
        for name in group
        if isinstance(link := group.get(name, getlink=True), h5py.SoftLink | h5py.ExternalLink)
        and _resolve(group, name) is None
    ]


def describe_broken_links(file: h5py.File) -> str:
    """Returns a remark on the links of a file that lead to no object; empty without such links."""
    links = broken_links(file)
    return f" (links that lead nowhere: {', '.join(links)}; put the linked file there)" if links else ""


def external_files(file: h5py.File) -> list[str]:
    """Returns the names of the other files that the external links of a file lead to."""
    names = {
        target.file.filename
        for group in [file, *(group for _, group in walk_groups(file))]
        for name in group
        if not isinstance(group.get(name, getlink=True), h5py.HardLink)
        and (target := _resolve(group, name)) is not None
    }
    return sorted(names - {file.filename})


def _walk(parent: h5py.Group, prefix: str, visited: set[tuple[int, int]]) -> Iterator[tuple[str, h5py.Group]]:
    for name in parent:
        item = _resolve(parent, name)
        if not isinstance(item, h5py.Group):
            continue
        path, identity = f"{prefix}{name}", _identity(item)
        yield path, item
        if identity not in visited:
            visited.add(identity)
            yield from _walk(item, f"{path}/", visited)


def _resolve(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Returns the object of a name; None for a link that leads to no object."""
    if isinstance(group.get(name, getlink=True), h5py.HardLink):
        return group[name]
    try:
        return group[name]
    except (KeyError, OSError, RuntimeError):
        return None


def _identity(group: h5py.Group) -> tuple[int, int]:
    info = h5py.h5o.get_info(group.id)
    return info.fileno, info.addr


def _describe_target(link: h5py.SoftLink | h5py.ExternalLink) -> str:
    return f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else str(link.path)
