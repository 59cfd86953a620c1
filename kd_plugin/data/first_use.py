"""Importing this module makes sure that DigitScenes is on disk.

Demo configs list it in ``custom_imports``, so that the data appear on first use, in a few seconds.
They go to ``data/digit_scenes`` under the working directory, or where the environment variable
``KD_PLUGIN_DATA`` says. When they are there, only a small JSON file is read. A folder that holds
anything but the default settings' data raises ValueError: configs for data made with other
settings leave this import out.
"""

import os

from .digit_scenes import ensure

ensure(os.environ.get('KD_PLUGIN_DATA', 'data/digit_scenes'))
