"""make test-cpus: what it counts, what it keeps, and how it ends."""

import json
import sys

import cpus
import pytest

REPORT = '<testsuites><testsuite tests="9" failures="2" errors="1" skipped="2"/></testsuites>'


@pytest.fixture
def variants(tmp_path, monkeypatch):
    """The command with a stand-in for pytest: ``variants(report, *arguments)`` → exit status."""
    seen = []
    page = tmp_path / 'machines.md'
    page.write_text(f'Words.\n\n{cpus.MARKER}| old |\n')
    for name, value in (('ROOT', tmp_path), ('LOGS', tmp_path), ('PAGE', page),
                        ('RESULT', tmp_path / 'cpus.json')):
        monkeypatch.setattr(cpus, name, value)
    monkeypatch.setattr(cpus, 'capability', lambda **env: env.get('ATEN_CPU_CAPABILITY', 'avx2'))

    def end(report, *arguments):
        def pytest_process(command, env, **kwargs):
            seen.append((env['ATEN_CPU_CAPABILITY'], env['ONEDNN_MAX_CPU_ISA']))
            (path,) = (part for part in command if part.startswith('--junitxml='))
            (tmp_path / path.partition('=')[2]).write_text(report)

        monkeypatch.setattr(cpus.subprocess, 'run', pytest_process)
        monkeypatch.setattr(sys, 'argv', ['cpus.py', *arguments])
        with pytest.raises(SystemExit) as ended:
            cpus.main()
        assert seen == [('default', 'SSE41'), ('avx2', 'AVX2')]  # the processor has no more
        return int(ended.value.code or 0)

    return end


def test_failures_end_it_with_1_and_are_kept(variants, capsys):
    assert variants(REPORT) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(':')[0] for line in out] == ['avx512', 'default + SSE41', 'avx2 + AVX2']
    assert '4 passed, 3 failed, 2 skipped' in out[1] and 'default.log' in out[1]
    result = json.loads(cpus.RESULT.read_text())
    assert result['variants'][1] == dict(
        aten='avx2', onednn='AVX2', passed=4, failed=3, skipped=2)
    assert {'torch', 'mmengine'} & set(result['versions'])
    text = cpus.PAGE.read_text()
    assert text.startswith('Words.\n') and '| avx2 | AVX2 | 4 | 3 | 2 |' in text
    assert '| old |' not in text and cpus.page(result, text) == text


def test_some_tests_end_it_with_0_and_keep_nothing(variants):
    report = '<testsuite tests="3" failures="0" errors="0" skipped="0"/>'
    assert variants(report, 'tests/losses') == 0
    assert not cpus.RESULT.exists() and '| old |' in cpus.PAGE.read_text()


@pytest.mark.skipif(not cpus.RESULT.exists(), reason='make test-cpus has not been run yet')
def test_the_page_shows_the_result():
    assert cpus.page(json.loads(cpus.RESULT.read_text()), cpus.PAGE.read_text()) == (
        cpus.PAGE.read_text())
