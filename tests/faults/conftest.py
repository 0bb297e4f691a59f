"""The tiny recipe of the training tests."""

from tests.training.conftest import make_recipe as make_recipe
