"""cffi's hook: what pyproject.toml cannot say."""

from setuptools import setup

setup(cffi_modules=["native/build.py:ffibuilder"])
