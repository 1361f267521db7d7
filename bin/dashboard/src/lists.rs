//! Lists over HTTP, page by page: articles, their readers, users, and what they have read; views per hour and minute.
//!
//! | file | what |
//! | --- | --- |
//! | `query` | the parameters of a request |
//! | `route` | which list a request reads |
//! | `cache` | serves lists from memory, and limits the reads |
//! | `source` | where lists are read: MySQL, or a replica of it, and up to when that has everything |
//! | `reader` | reads lists from MySQL |
//! | `json` | lists as they are sent |

mod cache;
mod json;
mod query;
mod reader;
mod route;
mod source;

pub(crate) use self::cache::Lists;
pub(crate) use self::query::{Query, Rejection};
#[cfg(test)]
pub(crate) use self::route::ROUTES;
pub(crate) use self::route::{Resource, watched_article};
pub(crate) use self::source::Source;
