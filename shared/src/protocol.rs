//! The words of the counting protocol. Pure: no clock, no I/O, and nothing from the other rooms.

mod batch;
pub mod errors;
pub mod keys;
pub mod packed;

pub use batch::{
    ARTICLE_BYTES_MAX, Article, Batch, CountError, Growth, IdError, Identified, Producer, ROW_VIEWS_MAX, Row, Shard,
    USER_BYTES_MAX, User, VIEW_ID_BYTES_MAX, VIEWS_MAX, View, ViewId, add_views, parse_views, shown, total,
};
