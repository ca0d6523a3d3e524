"""Imports of PyYAML what SafeLoader needs and leaves the rest out: dumper, emitter, representer."""

import sys

# The package without running its __init__, which imports everything.
package = type(sys)("yaml")
package.__path__ = ["/usr/lib/python3/dist-packages/yaml"]
sys.modules["yaml"] = package

for module in ("constructor", "composer", "resolver", "parser", "scanner", "reader"):
    __import__(f"yaml.{module}")
