"""A search of the toy set whose trials are told by hand."""

import pytest

from training.search.settings import parsed
from training.search.space import choices_of, space_of, start_of
from training.search.storage import open_study
from training.search.trials import Job


@pytest.fixture
def job(toy, tmp_path):
    words = [str(toy), "--recipe", "toy", "--target", "90", "--budget", "10m", "--logdir", str(tmp_path / "search")]
    settings = parsed(words)
    start = start_of(settings.config)
    return Job(settings, start, space_of(start, False, ""), lambda config, schedule: 10.0, 10.0)


@pytest.fixture
def study(job):
    return open_study(job.settings, job.space, [choices_of(job.start)])
