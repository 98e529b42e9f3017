"""Tests of the operator, and their stand-ins: an API server in memory, Ollamas behind httpx, builders.

A package with a name of its own below `tests`: pytest would otherwise import the files as `operator.tests...`
and put this project's `operator` folder in the place of the standard library's module.
"""
