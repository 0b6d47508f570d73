"""The kernel `python3` is always this very Python, whatever else is installed.

Jupyter looks for kernels by name in several folders, and one in the user's home that points to another Python wins
over the environment's own. `minillm lab` and `minillm author run` therefore bring their own list of kernels.

Next:    minillm/course/lab.py
"""

import sys
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

NAME = "python3"


class ThisPython(KernelSpecManager):
    """Jupyter's list of kernels, with `python3` replaced by the Python that runs this.

    >>> ThisPython().get_kernel_spec("python3").argv[0] == sys.executable
    True
    """

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The description of one kernel; for `python3` it starts `sys.executable`."""
        if kernel_name != NAME:
            return super().get_kernel_spec(kernel_name)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(
            argv=argv,
            display_name="Python 3 (ipykernel)",
            language="python",
            metadata={"debugger": True},
            resource_dir=_resources(),
        )

    def find_kernel_specs(self) -> dict[str, str]:
        """The folder of each kernel by name."""
        return {**super().find_kernel_specs(), NAME: _resources()}

    def get_all_specs(self) -> dict[str, Any]:
        """Every kernel that a launcher offers, as plain data."""
        found = super().get_all_specs()
        found[NAME] = {"resource_dir": _resources(), "spec": self.get_kernel_spec(NAME).to_dict()}
        return found


def _resources() -> str:
    """The folder with the kernel's icons."""
    from ipykernel.kernelspec import RESOURCES

    return RESOURCES
