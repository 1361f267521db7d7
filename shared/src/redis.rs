//! Redis: where accepted views wait until MySQL has them, as the entries of one log per shard. Only this room goes
//! through it; every script is one atomic step of the protocol.
//!
//! | file | steps |
//! | --- | --- |
//! | `append`, `salt` | what an ingest does: register, append, remember view ids, report; names for readers without one |
//! | `follow`, `follower` | the one way to read the log, and where in it one stands |
//! | `cache` | bases of articles: fill in, move along with a flush, make invisible |
//! | `trim` | what a flusher does when MySQL has entries |
//! | `recover` | what a recovery does: look at the data set, open it under a new epoch |
//! | `watch`, `hits`, `presence` | what is told beside the log, for whoever watches |
//! | `admin` | what the operator's tool looks at and sets right |
//! | `queue`, `calls`, `scripts`, `replies`, `errors` | how scripts are called, what they answer, what can go wrong |
//! | `server`, `topology` | which server a request goes to |
//! | `node`, `client`, `settings` | how one server is reached, and whether it keeps what it is given |

mod admin;
mod append;
mod cache;
mod calls;
mod client;
mod errors;
mod follow;
pub mod follower;
mod hits;
mod node;
pub mod presence;
mod queue;
mod recover;
mod replies;
mod salt;
mod scripts;
mod server;
mod settings;
mod topology;
mod trim;
mod watch;

pub use admin::{LogReader, Moment};
pub use append::Applied;
pub use cache::{Advanced, Base, Bases};
pub use calls::Redis;
pub use errors::QueueError;
pub use follow::{Entry, MEMORY_PERCENT_MAX, Page};
pub use queue::Queue;
pub use scripts::{Script, WhenFull, scripts};
pub use server::{LookFuture, MastersFuture, ReplyFuture, Scope, Server};
pub use watch::LogTotals;
