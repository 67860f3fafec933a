//! The `bitnet` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    bitnet_cli::run(std::env::args_os()).into()
}
