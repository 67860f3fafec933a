#!/bin/sh
# Debian's Rust compiler and its clippy, and what a standard library for aarch64-apple-darwin declares, from its sources:
# where rustup can download nothing. Enough for checks; nothing can be linked with it.
set -eu
apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src rust-web-clippy
folder=$(mktemp -d)
mkdir "$folder/src"
: > "$folder/src/lib.rs"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[lib]\n' > "$folder/Cargo.toml"
cd "$folder"
env -u RUSTUP_TOOLCHAIN -u CARGO -u RUSTC CARGO_TARGET_DIR="$folder/target" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo check -q \
    --target aarch64-apple-darwin -Zbuild-std=std,panic_abort,panic_unwind,test,proc_macro
place=$(/usr/bin/rustc --print sysroot)/lib/rustlib/aarch64-apple-darwin/lib
mkdir -p "$place"
rm -f target/aarch64-apple-darwin/debug/deps/libempty-*
cp target/aarch64-apple-darwin/debug/deps/*.rmeta "$place"
cd /
rm -r "$folder"
