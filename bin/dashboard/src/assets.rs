//! The page's files, which are part of the program: it is one file to install, and never shows a page of another release.

/// A file below `/assets/`.
pub(crate) struct Asset {
    name: &'static str,
    /// Its `Content-Type`.
    pub(crate) content_type: &'static str,
    /// What is in it.
    pub(crate) text: &'static str,
}

/// The dashboard.
pub(crate) const PAGE: &str = include_str!("../page/index.html");
/// The form for the token.
pub(crate) const LOGIN: &str = include_str!("../page/login.html");

macro_rules! assets {
    ($($name:literal)*) => {
        &[$(Asset { name: $name, content_type: content_type($name), text: include_str!(concat!("../page/", $name)) }),*]
    };
}

const ASSETS: &[Asset] = assets! {
    "app.css" "app.js" "chart.js" "chinese.js" "choices.js" "connection.js" "dom.js" "history.js" "list.js" "login.js"
    "minutes.js" "operations.js" "overview.js" "pages.js" "path.js" "ranking.js" "status.js" "words.js"
};

const fn content_type(name: &str) -> &'static str {
    if name.as_bytes()[name.len() - 1] == b's' && name.as_bytes()[name.len() - 2] == b'j' {
        "text/javascript; charset=utf-8"
    } else {
        "text/css; charset=utf-8"
    }
}

/// The file with this path, such as `/assets/app.js`.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    let name = path.strip_prefix("/assets/")?;
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests;
