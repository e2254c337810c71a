#!/bin/sh
# Run by the Vagrantfile on a fresh machine: what it lacks to build Podmeter, then the kernel tests.
# `cargo xtask setup` brings by apt what else is needed; where there is no apt, it stands here.
set -eu
if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install --yes build-essential curl ca-certificates
else
    # The modules of veth, netem and null_blk are in kernel-modules-extra; for an old kernel it may be gone.
    dnf install --assumeyes gcc tar xz openssl-devel iproute iproute-tc ethtool e2fsprogs
    dnf install --assumeyes "kernel-modules-extra-$(uname -r)" || echo "no kernel-modules-extra"
fi
cd /vagrant
export CARGO_TARGET_DIR=/var/tmp/podmeter-target PATH="$HOME/.cargo/bin:$PATH"
# The compiler comes by rust-toolchain.toml.
command -v rustup >/dev/null ||
    curl --proto '=https' --tlsv1.2 --fail --silent --show-error https://sh.rustup.rs |
    sh -s -- -y --default-toolchain none --no-modify-path
command -v bpf-linker >/dev/null || command -v cargo-binstall >/dev/null ||
    cargo install cargo-binstall --locked
cargo xtask test kernel
