//! How much code the path from Redis to MariaDB is.

use std::fs;
use std::path::Path;

/// Where it is: below the top folder, what begins so. A file of the path that has another name has to be named here.
const PATH: [&str; 4] =
    ["shared/src/redis", "shared/src/protocol/recovery", "shared/src/stores/recovery", "bin/flusher/src"];

/// What stands there without being on the way of a view; it stood elsewhere when `BEFORE` was counted.
const BESIDE: [&str; 2] = ["shared/src/redis/presence", "shared/src/redis/hits"];

/// What the path had when Redis still kept totals beside the log: at commit 96546a3.
pub(crate) const BEFORE: f64 = 2_910.0;

/// Lines of Rust and Lua in it, comments and tests too; none if this program is not where it was built.
pub(crate) fn of_the_path() -> anyhow::Result<Option<f64>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("this package is in shared/proof/bench");
    if !root.join(PATH[0]).exists() {
        return Ok(None);
    }
    let lines = PATH.iter().map(|beginning| lines_at(root, beginning)).sum::<std::io::Result<usize>>()?;
    let beside = BESIDE.iter().map(|beginning| lines_at(root, beginning)).sum::<std::io::Result<usize>>()?;
    Ok(Some((lines - beside) as f64))
}

/// In everything whose path begins so.
fn lines_at(root: &Path, beginning: &str) -> std::io::Result<usize> {
    let beginning = root.join(beginning);
    let mut lines = 0;
    for entry in fs::read_dir(beginning.parent().expect("it has one"))? {
        let path = entry?.path();
        if path.to_string_lossy().starts_with(&*beginning.to_string_lossy()) {
            lines += lines_below(&path)?;
        }
    }
    Ok(lines)
}

fn lines_below(path: &Path) -> std::io::Result<usize> {
    if path.is_dir() {
        let paths = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        return paths.iter().map(|path| lines_below(path)).sum();
    }
    let is_code = path.extension().is_some_and(|kind| kind == "rs" || kind == "lua");
    Ok(if is_code { fs::read_to_string(path)?.lines().count() } else { 0 })
}
