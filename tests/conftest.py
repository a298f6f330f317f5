"""What holds for all tests."""

from hypothesis import settings

# How long one example takes says nothing on a machine that others use as well.
settings.register_profile("slackwater", deadline=None)
settings.load_profile("slackwater")
