//! `footfall`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    footfall::main()
}
