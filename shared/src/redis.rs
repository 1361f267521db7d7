//! Redis: where accepted views wait until MySQL has them, as the entries of one log per shard. Only this module goes
//! through it; every script is one atomic step of the protocol.
//!
//! | file | steps |
//! | --- | --- |
//! | `append` | what an ingest does: register, append, remember view ids, report |
//! | `follow` | the one way to read the log; cached bases; what a flusher does when MySQL has entries: advance, trim |
//! | `recover` | what a recovery does: look at the data set, open it under a new epoch |
//! | `watch` | what is told and kept beside the log, for whoever watches |
//! | `admin` | what the operator's tool looks at and sets right |

mod admin;
mod append;
mod follow;
pub mod follower;
pub mod presence;
mod queue;
mod recover;
mod scripts;
mod server;
mod url;
mod watch;

pub use append::Applied;
pub use watch::Books;
pub use follow::{Advanced, Base, Bases, Entry, Page};
pub use queue::{MEMORY_PERCENT_MAX, Queue, QueueError};
pub use scripts::{Script, WhenFull, scripts};
pub use server::{Answer, Redis, Server};
pub use admin::{LogReader, Moment};
pub use url::{check, exposure, is_local};

use queue::{Result, number_of};
