#!/bin/sh
# Debian's Rust compiler, and a standard library for wasm32-unknown-unknown built from its sources: where rustup can
# download nothing. The library goes where that compiler looks for it.
set -eu
apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src lld
folder=$(mktemp -d)
mkdir "$folder/src"
: > "$folder/src/lib.rs"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[lib]\n' > "$folder/Cargo.toml"
cd "$folder"
env -u RUSTUP_TOOLCHAIN -u CARGO -u RUSTC CARGO_TARGET_DIR="$folder/target" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo build -q \
    --release --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort,panic_unwind
place=$(/usr/bin/rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib
mkdir -p "$place"
rm -f target/wasm32-unknown-unknown/release/deps/libempty-*
cp target/wasm32-unknown-unknown/release/deps/*.rlib "$place"
cd /
rm -r "$folder"
