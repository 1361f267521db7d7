//! A file per kind of input.

pub(crate) mod configuration;
pub(crate) mod import;
pub(crate) mod packed;
pub(crate) mod proxy_header;
pub(crate) mod request;
pub(crate) mod segment;
