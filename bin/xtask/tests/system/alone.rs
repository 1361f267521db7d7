//! What measures time or memory, or needs the machine's full speed: each of these tests waits until it is alone. Tests are run
//! in the order of their names, so these come before nearly all others, and the machine need not be cleared for them.

mod backlog;
mod bodies;
mod crowds;
mod flooded;
mod floods;
mod hit_rates;
mod page;
mod viewers;
