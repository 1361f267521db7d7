//! Test builds only: a flusher that ignores the fence. The tests must notice that it counts twice.

fn main() -> std::process::ExitCode {
    footfall_flusher::main(footfall_shared::mysql::Store::without_fence)
}
