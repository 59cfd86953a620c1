"""What pages say in their own words is what the repository's tables say."""

import re
from pathlib import Path

import make_table
import pytest

ROOT = Path(__file__).parents[1]
TABLES = [ROOT / 'docs/digits.md', ROOT / 'docs/real-data.md']
# `run's name` and its score, as a cell has it.
SCORE = re.compile(r'`([\w,=.-]+_[\w,=.-]+)` (\d+\.\d(?: ± \d+\.\d)?)')


def test_scores_beside_a_runs_name_are_those_of_the_tables():
    cells = [[cell.strip() for cell in line.split('|')]
             for page in TABLES for line in page.read_text().splitlines()]  # fmt: skip
    scores = {row[1]: row[2] for row in reversed(cells) if len(row) > 3}
    quoted = SCORE.findall((ROOT / 'docs/papers.md').read_text())
    assert len(quoted) > 30
    assert {name: score for name, score in quoted if scores.get(name) != score} == {}


def gains(plan):
    """Mean gain of each method of a plan or its rest, in brackets where the interval holds 0."""
    found = {}
    for end in ('_rest', ''):
        file = ROOT / f'configs/plans/{plan}{end}.txt'
        if file.exists():
            found.update(reversed(list(gains_of(file))))  # of two longer schedules, the first
    return found


def gains_of(file):
    text = make_table.from_arguments(make_table.parser().parse_args([f'@{file}']))
    head, _, *rows = ([cell.strip() for cell in line.split('|')] for line in text.splitlines())
    column = head.index('gain (95 % interval)')
    for row in rows:
        found = re.fullmatch(r'([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\)', row[column])
        if found:
            mean, low, high = found.groups()
            name = re.sub(r',labels=[\d.]+', '', row[1].partition('_')[0])
            method = name if ',iters=' not in row[1] else 'alone'
            yield method, f'({mean})' if float(low) <= 0 <= float(high) else mean


def overview():
    """The rows of the page's table: plan, and the cell of each method."""
    lines = (ROOT / 'docs/choosing.md').read_text().splitlines()
    head = next(line for line in lines if line.startswith('| pair |'))
    methods = re.findall(r'\| `([\w-]+)`', head)
    for line in lines:
        if re.match(r'\| `[\w-]+_[\w-]+`', line):
            plan, *cells = (cell.strip() for cell in line.strip('|').split('|'))
            yield plan.split('`')[1], dict(zip([*methods, 'alone'], cells, strict=True))


@pytest.mark.parametrize(('plan', 'cells'), list(overview()), ids=lambda value: str(value)[:24])
def test_the_overview_of_gains_is_that_of_the_tables(plan, cells):
    found = gains(plan)
    for method, cell in cells.items():
        if cell == 'not run':
            assert method not in found
        else:
            assert found[method] == cell


def test_the_number_of_families_is_that_of_the_compatibility_table():
    said = re.compile(r'Of (\d+) families (\d+)\s+train')
    known, table = (said.search((ROOT / 'docs' / page).read_text()).groups()
                    for page in ('known-failures.md', 'compatibility.md'))  # fmt: skip
    assert known == table


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md'])
def test_links_to_files_lead_somewhere(page):
    """Those between the pages of the site are Sphinx's to check."""
    links = re.findall(r'\]\(([^)#:\s]+)(?:#[\w-]*)?\)', (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_start_with_a_program():
    """The tools are no programs of their own."""
    pages = [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'configs').rglob('*.md')]
    bare = re.compile(r'^(?:    )?tools/\S+\.py |`tools/\S+\.py [A-Z@]', re.M)
    assert {page: bare.findall(page.read_text()) for page in pages
            if bare.search(page.read_text())} == {}  # fmt: skip
