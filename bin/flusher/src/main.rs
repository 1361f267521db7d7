//! `footfall-flusher`: see `--help`.

fn main() -> std::process::ExitCode {
    footfall_flusher::main()
}
