"""What pyproject.toml cannot say: a wheel is for one Python and one architecture, and holds what `make setup` built."""

from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class BinaryDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


class CompleteWheel(bdist_wheel):
    def run(self) -> None:
        for pattern in ("_slackwater*.so", "slackwater.bpf.o"):
            if not any(Path("native").glob(pattern)):
                raise SystemExit(f"native/{pattern} is missing: `make wheel` builds it")
        super().run()


setup(distclass=BinaryDistribution, cmdclass={"bdist_wheel": CompleteWheel})
