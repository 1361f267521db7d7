//! The Python packages that tests use, in a virtual environment of their own below the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::packages::{self, PYTHON};

/// Answers the folder of the environment, made now unless it is there already with all packages of
/// `tests/requirements.txt`. A test may call this too.
///
/// # Errors
///
/// If it cannot be made; says which command failed.
pub fn environment() -> anyhow::Result<PathBuf> {
    let folder = crate::target_dir().join("footfall-python");
    let requirements = crate::root().join("bin/xtask/tests/requirements.txt");
    let wanted = fs::read_to_string(&requirements).with_context(|| requirements.display().to_string())?;
    // Its programs know where they are: a copy of the target folder needs an environment of its own.
    let installed = format!("{wanted}\n# Installed into {}.\n", folder.display());
    // Tests run side by side: one makes it, the others wait.
    fs::create_dir_all(crate::target_dir())?;
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    // Written last: what was begun and not finished is made anew.
    let stamp = folder.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|before| before == installed) {
        return Ok(folder);
    }
    packages::ensure_python()?;
    println!("Making {} ...", folder.display());
    run(Command::new(PYTHON).args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
        .arg("--requirement")
        .arg(&requirements))?;
    fs::write(&stamp, installed)?;
    Ok(folder)
}

/// The accessibility checker that a page is given in a browser.
///
/// # Errors
///
/// If the environment cannot be made, or does not hold it.
pub fn axe() -> anyhow::Result<String> {
    let libraries = environment()?.join("lib");
    let file = fs::read_dir(&libraries)?
        .flatten()
        .map(|python| python.path().join("site-packages/axe_playwright_python/axe.min.js"))
        .find(|file| Path::exists(file))
        .with_context(|| format!("there is no axe.min.js in {}", libraries.display()))?;
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status();
    let call = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    };
    ensure!(
        status.is_ok_and(|status| status.success()),
        "the Python packages for tests could not be installed; please run this and look why:\n\n    {}\n",
        call()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_use_is_there_and_made_once() {
        let folder = environment().expect("an environment");
        assert!(folder.join("bin/st").exists());
        assert!(axe().expect("the checker").contains("axe"));
        let made = |folder: &Path| fs::metadata(folder.join("bin")).and_then(|bin| bin.modified()).expect("a folder");
        let before = made(&folder);
        assert_eq!(made(&environment().expect("the same environment")), before);
    }

    #[test]
    fn what_fails_is_shown_as_a_command() {
        let error = run(Command::new("false").args(["-m", "pip"])).expect_err("it fails").to_string();
        assert!(error.contains("\n    false -m pip\n"), "{error}");
        assert!(run(&mut Command::new("/nowhere/python3")).is_err());
    }
}
