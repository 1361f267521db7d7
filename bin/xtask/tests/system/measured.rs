//! What measures time or memory, or needs the machine's full speed: each of these tests waits until it is alone. They stand
//! together, because tests are run in the order of their names, and the machine is cleared for them once.

mod backlog;
mod bodies;
mod crowds;
mod flooded;
mod floods;
mod hit_rates;
mod page;
mod viewers;
