//! Every parser that reads bytes from outside, as a function that is given any bytes and says when something is wrong.
//!
//! No parser may panic; that is the least. Each function asserts more: what was accepted is what comes out when it is
//! written and read again, and it keeps its bounds.
//!
//! Small inputs that reach far are in `seeds`, a folder per target. The ordinary tests run these and what is close to them;
//! `cargo xtask fuzz` runs on from them for as long as one likes, led by what of the code each input reaches.

mod targets;

use std::fs;
use std::path::PathBuf;

/// A parser, and what must hold of it.
pub struct Target {
    /// Names it, and its folder of seeds.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "query", run: targets::request::query },
    Target { name: "posted", run: targets::request::posted },
    Target { name: "proxy_header", run: targets::proxy_header::read },
    Target { name: "packed", run: targets::packed::batch },
    Target { name: "record", run: targets::packed::record },
    Target { name: "segment", run: targets::segment::adopt },
    Target { name: "import", run: targets::import::read },
    Target { name: "configuration", run: targets::configuration::load },
];

impl Target {
    /// Its small inputs.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(self.name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let read = |file: std::io::Result<fs::DirEntry>| fs::read(file.expect("an entry").path()).expect("a seed");
        files.map(read).collect()
    }
}
