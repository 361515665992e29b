"""Puts the templates, recipes and samples of the top-level folders into the wheel; all else stands in pyproject.toml."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("templates", "recipes", "data")


class BuildWithShipped(build_py):
    """An editable installation reads the folders where they lie; a wheel holds them as `medrecipes/shipped`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                copytree(name, self._inside(name), dirs_exist_ok=True, ignore=ignore_patterns("__pycache__"))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What lies in the build folder, so that nothing of it is left out of the wheel."""
        copies = [self._inside(p) for name in SHIPPED for p in Path(name).rglob("*") if p.is_file()]
        return [*super().get_outputs(include_bytecode), *map(str, copies)]

    def _inside(self, path: str | Path) -> Path:
        return Path(self.build_lib, "medrecipes", "shipped", path)


setup(cmdclass={"build_py": BuildWithShipped})
