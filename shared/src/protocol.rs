//! The words of the counting protocol. Pure: no clock, no I/O, and nothing from the other rooms.

mod batch;
mod conservation;
pub mod errors;
mod flush;
mod ids;
pub mod keys;
pub mod packed;
mod positions;
mod recovery;
mod views;

pub use batch::{Batch, Identified, Row, View};
pub use conservation::Conservation;
pub use flush::{Committed, Delta, Direct, Flush, Histories, ProducerBatches};
pub use ids::{Article, IdError, Producer, Shard, User, ViewId};
pub use positions::{Fence, Position, Positions, StoredArticle};
pub use recovery::{DataSet, Decision, ID_BYTES, Progress, Recovery, Remembered, State};
pub use views::{CountError, ROW_VIEWS_MAX, VIEWS_MAX, add_views, parse_views, shown, total};
