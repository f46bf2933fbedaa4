"""What .importlinter checks beyond the contracts that import-linter brings."""

from __future__ import annotations

import grimp
from importlinter import Contract, ContractCheck, output


class NoCircleWithPackage(Contract):
    """No module imports a package that it lies in and that imports it back.

    `acyclic_siblings` compares modules and packages side by side, and never a package's own __init__.py with what the
    package holds.
    """

    type_name = "no_circle_with_package"

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 (import-linter's signature)
        """Find such imports."""
        found = [
            (module, package)
            for module in sorted(graph.modules)
            for package in sorted(graph.find_modules_directly_imported_by(module))
            if module.startswith(f"{package}.") and graph.chain_exists(importer=package, imported=module)
        ]
        return ContractCheck(kept=not found, metadata={"imports": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line an import."""
        for module, package in check.metadata["imports"]:
            output.print_error(f"- {module} imports {package}, which imports it back", bold=False)
        output.new_line()
