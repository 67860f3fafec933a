#!/bin/sh
# Debian's Rust compiler, and its standard library for aarch64 beside it: where rustup can download nothing.
set -eu
apt-get install -y -qq --no-install-recommends rustc-web cargo-web
folder=$(mktemp -d)
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
options="-oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::Lists=$folder/lists -oDir::Cache=$folder/cache"
cd "$folder"
# Packages of another architecture, without making this system a multi-architecture one.
apt-get $options update -qq
apt-get $options -oAPT::Sandbox::User=root download -qq libstd-rust-web-dev
dpkg -x libstd-rust-web-dev_*_arm64.deb /
cd /
rm -r "$folder"
