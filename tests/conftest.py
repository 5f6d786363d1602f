import os
from pathlib import Path

import pytest
from hypothesis import settings

from emseg import progress

# Time is asserted nowhere: a busy machine, or a first call that compiles, is no failure.
settings.register_profile("emseg", deadline=None)
settings.load_profile("emseg")
# Nor does a slow machine add lines of progress to those that a test reads.
progress.LINE_EVERY = 3600.0


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real volumes, or a skip that says why there is none."""
    folder = os.environ.get("EMSEG_TEST_DATA")
    if not folder:
        pytest.skip("EMSEG_TEST_DATA is unset: no real volumes")
    if not Path(folder).is_dir():
        pytest.fail(f"EMSEG_TEST_DATA names {folder}, which is no folder")
    return Path(folder)
