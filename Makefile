# `make demo`: a cluster of minions with DNS, and pods that talk.  `make test`: all tests.
# `make bench`: figures beside rivals and floors.  `make build`, `make deb`, `make image`: what is
# installed, as programs, package and image.
# All do the set-up on a fresh machine that has git, the Rust toolchain and iproute2.

CARGO ?= cargo
# Where cargo builds.
OUT := $(or $(CARGO_TARGET_DIR),target)
# For which target the plugin is built, and what runs here; see scripts/target.
PLUGIN_TARGET = $(shell scripts/target plugin)
HOST_TARGET = $(shell scripts/target host)
# Options of the demo, for example: make demo ARGS="--nodes 10 --ipv6 --json"
ARGS ?=

# Root is used where it can be had; otherwise a user namespace does for all but the tests of
# the container runtime, which are then reported as ignored.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || ! command -v sudo >/dev/null 2>&1 || echo sudo env "PATH=$$PATH" "HOME=$$HOME")

# The caller compiles and root only runs, so that nothing in target/ becomes root's; unless an
# earlier run, as in `sudo cargo test`, has left files there that only root may replace.
COMPILE := $(shell [ -z "$$(find target -maxdepth 4 ! -user "$$(id -u)" -print -quit 2>/dev/null)" ] || echo '$(AS_ROOT)')

.PHONY: demo test bench lint build deb image

# The demo needs no root where user namespaces are permitted; elsewhere only the program itself
# gets it, so that nothing in target/ becomes root's.
SUDO := $(shell [ "$$(id -u)" = 0 ] || unshare -Urn true 2>/dev/null || command -v sudo)

# Without optimisation, which here would cost minutes and gain nothing; and the whole workspace, as
# `make test` does: for a part of it some crates would be compiled anew, with other features.
demo:
	@scripts/need ip:iproute2 cc:gcc
	@$(CARGO) build --workspace --bins
	@MINIONET_SUDO="$(SUDO)" $(CARGO) run --quiet --bin netns-testbed -- demo $(ARGS)

test:
	@scripts/need ip:iproute2 cc:gcc nft:nftables iptables-nft:iptables ping:iputils-ping containerd:containerd crun:crun \
	  busybox:busybox-static /usr/lib/cni/bridge:containernetworking-plugins /lib/systemd/systemd:systemd \
	  named:bind9 dig:bind9-dnsutils knotd:knot dnsmasq:dnsmasq-base faketime:faketime promtool:prometheus
	@$(COMPILE) $(CARGO) build --workspace --bins
	@[ "$(PLUGIN_TARGET)" = "$(HOST_TARGET)" ] || $(COMPILE) $(CARGO) build -p minionet-plugin --target $(PLUGIN_TARGET)
	@$(COMPILE) $(CARGO) test --no-run
	@previous=$$($(COMPILE) env CARGO="$(CARGO)" scripts/previous) && \
	  $(AS_ROOT) env MINIONET_PREVIOUS_BIN_DIR="$$previous" $(CARGO) test

# What is measured is built as it is shipped: the plugin, and the floor beside it, in the profile
# of its own. Without ARGS every row is measured, and BENCHMARKS.md renewed.
bench:
	@scripts/need ip:iproute2 cc:gcc nft:nftables iptables:iptables iperf3:iperf3 \
	  /usr/lib/cni/bridge:containernetworking-plugins
	@$(CARGO) build --profile plugin -p minionet-plugin -p minionet-floor --target $(PLUGIN_TARGET)
	@$(CARGO) build --release -p minionet-daemon -p minionet-bench
	@$(AS_ROOT) $(CARGO) run --quiet --release -p minionet-bench -- $(or $(ARGS),$(BENCH_ALL))

BENCH_ALL := --json docs/bench/results.json --plot docs/bench --markdown BENCHMARKS.md

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# What is shipped: both programs, linked statically, in one directory. The plugin has a profile of
# its own: its size and its start are paid for every pod.
build:
	@scripts/need cc:gcc
	$(CARGO) build --profile plugin -p minionet-plugin --target $(PLUGIN_TARGET)
	$(CARGO) build --release -p minionet-daemon --target $(HOST_TARGET)
	@mkdir -p target/dist
	cp $(OUT)/$(PLUGIN_TARGET)/plugin/minionet $(OUT)/$(HOST_TARGET)/release/minionetd target/dist/

# The Debian package, as target/minionet.deb.
deb: build
	@scripts/need dpkg-deb:dpkg xz:xz-utils
	scripts/deb target/dist target/minionet.deb

# The container image, as target/minionet-image.tar (OCI): `ctr -n k8s.io images import`,
# `podman load --input` or `skopeo copy oci-archive:...` take it.
image: build
	scripts/image target/dist target/minionet-image.tar
