"""Write dectrain.yaml and docs/OPTIONS.md from the declared options: `make docs`."""

from pathlib import Path
import textwrap
from typing import Iterator

from dectrain_ros.config import options
from dectrain_ros.ros.parameters import ALL_ROOMS, NODES, PLAIN
import yaml

HERE = Path(__file__).resolve().parent
TABLE_START, TABLE_END = '<!-- options: made by `make docs` -->', '<!-- end of options -->'
HEAD = """\
# Every parameter at its default; a profile beside it needs only what differs.
# Made by `make docs` from the options' declarations.
"""


def _range(o) -> str:
    if o.choices:
        return ', '.join(o.choices)
    return '' if o.low is None else f'{o.low:g} to {o.high:g}'


def _room(room: type, node: str) -> Iterator[str]:
    for o in options([room]):
        if node not in o.nodes:
            continue
        limits = f' [{_range(o)}]' if _range(o) else ''
        yield from textwrap.wrap(
            f'{o.meaning}{limits}', 95, initial_indent=' ' * 6 + '# ',
            subsequent_indent=' ' * 6 + '# ')
        yield f'      {yaml.safe_dump({o.name.partition(".")[2]: o.default}).strip()}'


def parameters_yaml() -> str:
    """Return the text of dectrain.yaml."""
    lines = []
    for node in NODES:
        lines += ['', f'/**/{node}:', '  ros__parameters:']
        for o in PLAIN:
            lines += [f'    # {o.meaning}', f'    {yaml.safe_dump({o.name: o.default}).strip()}']
        for room in ALL_ROOMS:
            described = list(_room(room, node))
            if described:
                lines += [f'    # {room.__doc__.strip()}', f'    {room.room}:', *described]
    return HEAD + '\n'.join(lines) + '\n'


def options_table() -> str:
    """Return docs/OPTIONS.md."""
    lines = ['| option | default | range | meaning |', '|---|---|---|---|']
    for o in options(ALL_ROOMS):
        default = f'`{o.default}`' if o.default != '' else ''
        live = ' *Live.*' if o.live else ''
        lines.append(f'| `{o.name}` | {default} | {_range(o)} | {o.meaning}{live} |')
    return '\n'.join(lines)


def with_table(page: str) -> str:
    """
    Return the text of docs/OPTIONS.md with the table of today's options.

    :raises ValueError: if the marks around the table are missing.
    """
    before, start, rest = page.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not end:
        raise ValueError(f'docs/OPTIONS.md lacks {TABLE_START} or {TABLE_END} around its table')
    return f'{before}{start}\n{options_table()}\n{end}{after}'


def main() -> None:
    """Write both files."""
    (HERE / 'dectrain.yaml').write_text(parameters_yaml())
    page = HERE.parent / 'docs' / 'OPTIONS.md'
    page.write_text(with_table(page.read_text()))


if __name__ == '__main__':
    main()
