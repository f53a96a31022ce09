# Two commands on a fresh Debian machine: `make demo`, `make test`. Both install what they need (tests/setup/install.sh).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build static static-dev static-arm64 test-arm64 dist test-dist install man completions picture check test test-faults test-long lint demo corpus figures bench heap bombs fuzz

CARGO := cargo
TOOLS := $(or $(PANNIER_TOOLS),$(CURDIR)/target/tools)
PREFIX := /usr/local
STATIC_TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
DESTDIR :=
# nextest where it is installed (each test a process of its own), else cargo's own runner.
RUN_TESTS := $(shell command -v cargo-nextest >/dev/null && echo "nextest run" || echo "test --lib --bins --tests")
# Without root most of what needs a node cannot run: it is skipped, and listed at the end. Never in continuous integration.
ifneq ($(CI),true)
ifneq ($(shell id -u),0)
export PANNIER_SKIP := 1
endif
endif
SKIPPED := $(CURDIR)/target/skipped
LIST_SKIPPED = if [[ -s $(SKIPPED) ]]; then \
	printf '\n\#\#\#\#\# NOT TESTED: %s of the tests above ran in part, or not at all \#\#\#\#\#\n' "$$(cut -d' ' -f1 $(SKIPPED) | sort -u | wc -l)"; \
	sort -u $(SKIPPED); fi

help: ## what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

build: ## the release binary, target/release/pannier
	tests/setup/install.sh build
	$(CARGO) build --locked --release

static: ## a release binary that needs no library, target/static/pannier; STATIC_TARGET=aarch64-unknown-linux-gnu for another processor
	tests/setup/install.sh build
	$(CARGO) rustc --locked --release --bin pannier --target $(STATIC_TARGET) -- -C target-feature=+crt-static
	install -Dm755 target/$(STATIC_TARGET)/release/pannier target/static/pannier
	! readelf --wide --program-headers target/static/pannier | grep INTERP

static-arm64: ## the same for arm64, target/static/arm64/pannier, with Debian sid's compiler, unpacked; PROFILE=dev is fast to build
	tests/setup/install.sh build arm64
	tests/setup/rust-arm64.sh
	RUSTC=$(TOOLS)/rust-arm64/rustc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
	$(CARGO) build --locked --profile $(or $(PROFILE),release) --bin pannier --target aarch64-unknown-linux-gnu --target-dir target/arm64
	install -Dm755 target/arm64/aarch64-unknown-linux-gnu/$(if $(filter dev,$(PROFILE)),debug,$(or $(PROFILE),release))/pannier target/static/arm64/pannier

test-arm64: ## the program for arm64 under qemu, against this machine's program
	$(MAKE) --no-print-directory static-arm64 PROFILE=dev
	$(CARGO) build --locked --bin pannier --example node
	tests/arm64.sh target/static/arm64/pannier target/debug/pannier

dist: ## static programs, .deb, .rpm, SBOM and sums, target/dist; TARGETS="x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu", SIGN_KEY=FILE
	tests/setup/install.sh build dist
	packaging/dist.sh

test-dist: ## what `make dist` made: lintian, and installed, run and removed in bare Debian 12 and 13; as root
	tests/setup/install.sh dist
	tests/dist/check.sh

# The same for a test: only the last step differs from what the other tests are linked from.
static-dev:
	$(CARGO) rustc --locked --bin pannier -- -C target-feature=+crt-static
	install -d target/static/dev
	strip -o target/static/dev/pannier target/debug/pannier

demo: ## carry a small set of images to a medium, and into containerd
	tests/setup/install.sh build node
	tests/demo.sh

# No tools, no containerd, no root; what cargo has built is not built again. The encoders of gzip are tried by `make test`: 40 s of
# CPU where they are not optimised.
check: ## in seconds, after an edit: format, clippy, unit tests, documentation
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --quiet -- -D warnings
	$(CARGO) test --locked --lib --quiet -- --skip layer::gzip::
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --lib --quiet

test: ## everything: unit and integration tests against the real thing, doc tests, lint
	tests/setup/install.sh build node peers faults lint || [[ -n $${PANNIER_SKIP:-} ]]
	fixtures/corpus/build.sh target/corpus/full || [[ -n $${PANNIER_SKIP:-} ]]
	fixtures/corpus/build.sh target/corpus/updated --suites "bookworm bookworm-security" || [[ -n $${PANNIER_SKIP:-} ]]
	$(MAKE) --no-print-directory static-dev
	rm -f $(SKIPPED)
	PANNIER_SKIPPED=$(SKIPPED) $(CARGO) $(RUN_TESTS) --locked || { $(LIST_SKIPPED); exit 1; }
	$(CARGO) test --locked --doc
	$(MAKE) --no-print-directory lint
	@$(LIST_SKIPPED)

# A test that would skip something fails instead: the table says what was really tried.
test-faults: ## the whole fault matrix, and a table of its rows; about half an hour
	tests/setup/install.sh build node peers faults
	mkdir -p target/faults
	command -v cargo-nextest >/dev/null && run=(nextest run --run-ignored all --success-output immediate -E "$$(tests/faults/table.py --filter)") || run=(test --tests --no-fail-fast -- --include-ignored --nocapture); \
	CI=true PANNIER_FAULTS=all $(CARGO) "$${run[@]}" 2>&1 | tee target/faults/log || true
	tests/faults/table.py target/faults/log

test-long: ## what takes too long for `make test`: every fuzz target for 20 s, the second reader on 1000 media
	$(MAKE) --no-print-directory fuzz SECONDS=20
	$(CARGO) test --locked --test local -- --ignored a_thousand_media

fuzz: ## what reads untrusted bytes, with bytes that a fuzzer makes up: SECONDS=N for each target, TARGETS="record walk" takes some
	tests/setup/install.sh build fuzz
	tests/fuzz/run.sh $(or $(SECONDS),60) $(TARGETS)

lint: ## format, clippy, documentation, licences and sources of dependencies, shell scripts
	tests/setup/install.sh build lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	PATH="$(TOOLS)/cargo-deny/bin:$$PATH" $(CARGO) deny --locked --log-level warn check bans licenses sources
	git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x

corpus: ## the realistic set of images, target/corpus/full (about 1.1 GB unpacked), with security updates (updated), and the small one
	tests/setup/install.sh build
	fixtures/corpus/build.sh target/corpus/full
	fixtures/corpus/build.sh target/corpus/updated --suites "bookworm bookworm-security"
	fixtures/corpus/build.sh target/corpus/small --small

figures: ## sizes, times and memory of carrying the corpus, with what they are compared to
	tests/setup/install.sh build node peers
	fixtures/corpus/build.sh target/corpus/full
	$(CARGO) build --locked --release --bin pannier --example node
	tests/figures.sh

picture: ## docs/picture.svg, an export and an import in a terminal, drawn from a real run; as root
	tests/setup/install.sh build node faults
	fixtures/corpus/build.sh target/corpus/small --small
	$(CARGO) build --locked --release --bin pannier --example node
	python3 -B tests/picture/picture.py target/release/pannier target/release/examples/node target/corpus/small docs/picture.svg

bench: ## Pannier against ctr, skopeo, zstd and sha256sum in turn, target/bench/results.md; long: ONLY=PATTERN,... takes some cases, ROUNDS=N
	tests/setup/install.sh build node peers faults
	fixtures/corpus/build.sh target/corpus/full
	$(CARGO) build --locked --release --bin pannier --example node
	python3 -B tests/bench/bench.py --rounds $(or $(ROUNDS),5) --only '$(or $(ONLY),*)'

heap: ## what holds the memory that each image of a set takes, by heaptrack; as root
	tests/setup/install.sh build node heap
	$(CARGO) build --locked --release --bin pannier --example node
	python3 -B tests/bench/heap.py

bombs: ## what media cost that were made to exhaust whoever reads them; as root also in an import
	tests/setup/install.sh build node
	$(CARGO) build --locked --release --bin pannier --example node
	python3 -B tests/bombs.py

man: build ## man pages, target/man
	target/release/pannier man --out target/man

completions: build ## completions for bash, zsh and fish, target/completions
	mkdir -p target/completions
	for shell in bash zsh fish; do target/release/pannier completions $$shell >target/completions/pannier.$$shell; done

install: ## binary, man pages and completions below PREFIX (/usr/local); builds only what is absent, so `sudo make install` needs no cargo
	[[ -x target/release/pannier && -d target/man && -d target/completions ]] || $(MAKE) --no-print-directory man completions
	install -Dm755 target/release/pannier "$(DESTDIR)$(PREFIX)/bin/pannier"
	install -d "$(DESTDIR)$(PREFIX)/share/man/man1"
	install -m644 target/man/*.1 "$(DESTDIR)$(PREFIX)/share/man/man1/"
	install -Dm644 target/completions/pannier.bash "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pannier"
	install -Dm644 target/completions/pannier.zsh "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_pannier"
	install -Dm644 target/completions/pannier.fish "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pannier.fish"
