//! The documents say what is so.

mod settings;
