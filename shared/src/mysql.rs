//! MySQL or MariaDB: where views are counted for good. Only this room knows SQL.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `store` | the pool of connections, and reads that end in time; `reach` says why a server cannot be reached |
//! | `fences`, `transaction`, `rows` | what the protocol asks of MySQL: fence, rows and sums in one transaction |
//! | `tries` | when a transaction is done again |
//! | `known` | users that need not be written again |
//! | `lists`, `audit` | what is read for people, and one look at everything for `footfall verify` |
//! | `quarantine`, `restore`, `forget`, `clean` | what the operator's tool changes |
//! | `tables`, `look`, `schema`, `settings`, `probe` | how tables and server must be, and whether they are |
//! | `cluster` | what a server is a part of, and how a session is set up there |
//! | `sql`, `errors`, `url` | what all statements have in common, what can go wrong, how a server is reached |

mod audit;
mod clean;
mod cluster;
mod errors;
mod fences;
mod forget;
mod known;
mod lists;
mod look;
mod probe;
mod quarantine;
mod reach;
mod restore;
mod rows;
mod schema;
mod settings;
mod sql;
mod store;
mod tables;
mod transaction;
mod tries;
mod url;

pub use audit::{Audit, ProducerFences, ShardTotals, column};
pub use cluster::set_up_session;
pub use errors::StoreError;
pub use fences::Fences;
pub use forget::{COUNTED_MAX, Forgotten, Which};
pub use lists::{By, ListedArticle, RisingArticle};
pub use look::{Found, FoundObjects};
pub use quarantine::{Quarantined, Replayed};
pub use restore::{Known, Lost};
pub use schema::{SCHEMA_VERSION, recorded};
pub use store::{Store, StoreFuture};
pub use tables::{BYTEWISE, INIT_LEASE, TABLES, TABLES_BEFORE, Table, VIEWS_OF_COUNTS, View};
pub use tries::execute_alone;
pub use url::connect_options;
