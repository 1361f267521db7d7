//! The package on a whole machine: installed, set up as the runbook says, run by a real systemd beside Debian's own Redis and
//! MariaDB, loaded from outside, cut off from its power, and upgraded. The image, run as compose.yaml says. And stores of other makes than Debian's, hurt as those are.
//!
//! `cargo test --release -p xtask --test machine -- --include-ignored --nocapture`; the first time it makes an image, which needs
//! root and the network. `FOOTFALL_TEST_CUTS=1` cuts the power once per setting instead of ten times.

mod containers;
mod engine;
mod power;
mod servers;
mod site;
mod units;
