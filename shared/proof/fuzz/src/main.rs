//! The long run of one target, by libFuzzer. `cargo xtask fuzz` builds it as it must be built, and starts it.

#![cfg_attr(fuzzing, no_main)]
#![cfg_attr(not(fuzzing), expect(unexpected_cfgs, reason = "only `cargo xtask fuzz` gives it"))]

#[cfg(fuzzing)]
mod long {
    use std::sync::LazyLock;

    use footfall_fuzz::{TARGETS, Target};

    static TARGET: LazyLock<&Target> = LazyLock::new(|| {
        let name = std::env::var("FOOTFALL_TEST_FUZZ").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).expect("FOOTFALL_TEST_FUZZ names a target")
    });

    libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
}

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    eprintln!("this is started by `cargo xtask fuzz`, which builds it in another way");
    std::process::ExitCode::FAILURE
}
