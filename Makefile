# Two commands to know: `make demo` shows it, `make test` proves it. Both install what they need into .venv first.
.PHONY: help demo test quick bench check site install clean

help:
	@echo "make demo    run the sign-up app with its workflows, and what to try with it"
	@echo "make test    lint, types and every test; what CI runs"
	@echo "make quick   the tests of the rooms only, in under a minute"
	@echo "make bench   enqueue, drain, latency and cold start on this machine"
	@echo "make check   lint and types"
	@echo "make site    the docs as a site, in build/site"
	@echo "make install install into .venv, and the Debian packages that the tests need"
	@echo "make clean   remove .venv, caches and the example's data"

demo:
	@scripts/install
	@.venv/bin/python scripts/demo

test: install
	@scripts/test

quick: install
	@scripts/quick

bench: install
	@scripts/bench

check: install
	@scripts/check

site: install
	@.venv/bin/zensical build --strict --clean

install:
	@scripts/install --tests

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist examples/*/.tako
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
