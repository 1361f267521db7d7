//! What is kept of an error: enough to decide by, and a sentence for the operator.

use std::fmt::Display;

use footfall_shared::protocol::errors::{ErrorClass, Grade};

#[derive(Debug)]
pub(crate) struct GradedError {
    pub(crate) class: ErrorClass,
    pub(crate) why: String,
}

impl GradedError {
    pub(crate) fn of(error: &(impl Grade + Display)) -> Self {
        Self { class: error.class(), why: error.to_string() }
    }

    pub(crate) fn of_journal(class: ErrorClass, error: &impl Display) -> Self {
        Self { class, why: format!("journal: {error}") }
    }
}
