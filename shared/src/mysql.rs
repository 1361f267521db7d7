//! MySQL or MariaDB: where views are counted for good. Only this room knows SQL.

mod audit;
mod forget;
mod known;
mod lists;
mod quarantine;
mod reach;
mod restore;
mod rows;
mod schema;
mod server;
mod store;
mod tables;
mod transaction;
mod url;

pub use audit::{Audit, Books, ProducerFences, column};
pub use forget::{COUNTED_MAX, Forgotten, Which};
pub use lists::{By, ListedArticle, RisingArticle};
pub use quarantine::{Quarantined, Replayed};
pub use restore::{Known, Lost};
pub use schema::{Found, Look, recorded};
pub use store::{Fences, SCHEMA_VERSION, Step, Store, StoreError};
pub use tables::{BYTEWISE, MARK, TABLES, TABLES_BEFORE, Table, VIEWS_OF_COUNTS, View};
pub use url::{check, connect_options, exposure, is_local};

use store::{
    NO_FENCE, Result, STATEMENT_ROWS_MAX, TRANSACTION_MAX, article_of, fence_of, in_time, json_rows, statement, user_of,
};
