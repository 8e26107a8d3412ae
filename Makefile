# The commands of this repository. `make demo` and `make test` are all that a newcomer needs.

DEMO := target/demo
PAPER := target/paper
LDFA := target/release/ldfa-gpu
WASM := wasm32-unknown-unknown
# Mesa complains on standard error where no session has set one.
export XDG_RUNTIME_DIR ?= /tmp

.PHONY: demo paper-small test test-webgpu bench bench-peers lint driver build

## Train digits by backpropagation and by two rules of rank 10, three seeds each, and draw them side by side.
demo: driver build
	rm -rf $(DEMO)
	$(LDFA) train digits --rule backprop --out $(DEMO)/backprop
	$(LDFA) train digits --p normative --q normative --rank 10 --out $(DEMO)/normative
	$(LDFA) train digits --p oja --q hebbian --rank 10 --out $(DEMO)/local
	$(LDFA) report $(DEMO)/backprop $(DEMO)/normative $(DEMO)/local -o $(DEMO)/demo.png --title "Digits, 64-128-128-128-10, three seeds"

## The paper's figures at a scale for two cores, from CIFAR-10 and the digits: the modes of the linear network; accuracy and
## computation against rank, over rules, classes and seeds; receptive fields, and how alike networks represent images; all of it on
## one page. Verdicts need the five seeds. Sweeps go on where they were.
paper-small: driver build
	@$(LDFA) data info cifar10 > /dev/null
	$(LDFA) theory --seeds 3 --out $(PAPER)/theory
	$(LDFA) sweep digits --rules backprop,normative,local,fixed,direct:local,feedback-alignment --ranks 1,2,3,5 \
		--classes 5,10 --epochs 12 --seeds 5 --out $(PAPER)/classes
	$(LDFA) sweep digits --rules backprop,normative,local,fixed --ranks 1,2,4,8,16,32 --epochs 12 --seeds 5 --out $(PAPER)/ranks
	$(LDFA) sweep retina-small --rules backprop,local --ranks 1,4,16 --seeds 5 --out $(PAPER)/retina
	$(LDFA) fields $(PAPER)/retina --layer layers.2 --out $(PAPER)/fields --title "What the retina's outputs see, by the rank of its error"
	$(LDFA) compare $(PAPER)/retina --out $(PAPER)/likeness
	$(LDFA) report $(PAPER)/theory $(PAPER)/classes $(PAPER)/ranks $(PAPER)/retina $(PAPER)/fields $(PAPER)/likeness \
		--html $(PAPER)/paper.html --title "Errors of low dimension, at small scale"

## All tests, then those that touch a device again under the limits that WebGPU guarantees everywhere, but for the largest grids, the
## longest sequences and the replicas' bits, in which no limit plays a part. Tests of the full data sets need LDFA_DATA to name the
## folder that holds them.
test: driver
	@$(if $(LDFA_DATA),true,echo "LDFA_DATA is not set: tests that read MNIST, Fashion-MNIST and CIFAR-10 are left out")
	cargo test --release --locked $(if $(LDFA_DATA),,-- --skip real::)
	LDFA_LIMITS=webgpu cargo test --release --locked --test golden --test kernels --test step --test training --test cli --test hostile \
		-- --skip replicas:: --skip tall_and_wide_grids --skip long_recurrences

## Kernels by shape: with criterion's statistics, then every variant as ratios within one run.
bench: driver build
	cargo bench --locked --bench kernels
	$(LDFA) bench kernels

## Training steps and single products beside burn, meganeura and, where it is installed, PyTorch. The first build takes
## a while: the peers bring some four hundred crates. On a software adapter burn tunes its products for minutes. PEERS hands
## options on: PEERS="--only vit" times the vision transformer alone.
bench-peers: driver
	@mkdir -p target
	cargo run --release --manifest-path benches/peers/Cargo.toml --locked -- --json target/peers.json $(PEERS)
	@if python3 -c 'import torch' 2>/dev/null; then \
		python3 benches/peers/torch_step.py --json target/peers-torch.json; \
	else \
		echo "PyTorch is left out: it is not installed (python3 -m pip install torch)"; \
	fi

lint:
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --lib --no-default-features -- -D warnings
	@if test -d "$$(rustc --print target-libdir --target $(WASM))" || rustup target add $(WASM); then \
		cargo clippy --release --locked --lib --no-default-features --target $(WASM) -- -D warnings; \
	else \
		echo "the library for browsers is left out: the target $(WASM) is not installed"; \
	fi
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps

build:
	cargo build --release --locked

driver:
	@sh scripts/vulkan-driver.sh
