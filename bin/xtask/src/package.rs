//! `cargo xtask package`: a Debian package of the programs, with their units, configuration and documents.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::notices;

/// What is installed into `/usr/bin`.
pub const PROGRAMS: [&str; 4] = ["footfall", "footfall-ingest", "footfall-flusher", "footfall-dashboard"];

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What is installed beside the folder `docs`.
const DOCUMENTS: [&str; 4] = ["README.md", "README.zh-CN.md", "CHANGELOG.md", "LICENSE-MIT"];

/// Files of `/etc/footfall` that everybody may read; the others are secrets.
const PUBLIC: [&str; 2] = ["footfall.toml", "env"];

/// Builds the programs and packs them.
pub fn run() -> anyhow::Result<ExitCode> {
    let binaries = crate::build(crate::DIST, &PROGRAMS)?;
    let tree = crate::target_dir().join("footfall-package");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    lay_out(&binaries, version, &tree)?;
    let package = crate::target_dir().join(format!("footfall_{version}_{}.deb", architecture()?));
    pack(&tree, &package)?;
    println!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

/// Puts everything where it is to be, below the folder `tree`, which must not exist.
pub fn lay_out(binaries: &Path, version: &str, tree: &Path) -> anyhow::Result<()> {
    let source = crate::root();
    let mut libc = 0;
    for program in PROGRAMS {
        let installed = tree.join("usr/bin").join(program);
        install(&binaries.join(program), &installed, 0o755)?;
        // Without what only a debugger needs, which is most of it. Names of functions stay, for a backtrace.
        run_quietly(Command::new("strip").arg("--strip-debug").arg(&installed))?;
        libc = libc.max(libc_minor(&fs::read(&installed)?));
    }
    for unit in files(&source.join("systemd"))? {
        install(&unit, &tree.join("usr/lib/systemd/system").join(name(&unit)), 0o644)?;
    }
    let mut conffiles = String::new();
    for file in files(&source.join("systemd/etc"))? {
        let mode = if PUBLIC.contains(&name(&file)) { 0o644 } else { 0o600 };
        install(&file, &tree.join("etc/footfall").join(name(&file)), mode)?;
        conffiles += &format!("/etc/footfall/{}\n", name(&file));
    }
    // As in the repository, so that links from one document to another hold.
    let documents = tree.join("usr/share/doc/footfall");
    install(&source.join("systemd/debian/copyright"), &documents.join("copyright"), 0o644)?;
    let notices = documents.join("third-party-licences");
    fs::write(&notices, notices::of(&PROGRAMS)?)?;
    fs::set_permissions(&notices, fs::Permissions::from_mode(0o644))?;
    for file in DOCUMENTS {
        install(&source.join(file), &documents.join(file), 0o644)?;
    }
    install_all(&source.join("docs"), &documents.join("docs"))?;

    let debian = tree.join("DEBIAN");
    for script in SCRIPTS {
        install(&source.join("systemd/debian").join(script), &debian.join(script), 0o755)?;
    }
    fs::write(debian.join("conffiles"), conffiles)?;
    let control = fs::read_to_string(source.join("systemd/debian/control"))?
        .replace("{version}", version)
        .replace("{architecture}", &architecture()?)
        .replace("{libc}", &format!("2.{libc}"))
        .replace("{kib}", &kib(tree)?.to_string());
    fs::write(debian.join("control"), control)?;
    open_folders(tree)
}

/// Makes a package of what was laid out. With gzip, which takes seconds, where xz takes half a minute for a quarter less;
/// dpkg-deb's own level would take three times as long as this one for a hundredth.
pub fn pack(tree: &Path, package: &Path) -> anyhow::Result<()> {
    run_quietly(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-z6", "--build"]).args([tree, package]))
}

fn architecture() -> anyhow::Result<String> {
    let output = Command::new("dpkg").arg("--print-architecture").output().context("dpkg did not start")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The second number of the newest version of the C library that a program asks for, such as 34 of `GLIBC_2.34`.
fn libc_minor(program: &[u8]) -> u32 {
    const BEFORE: &[u8] = b"GLIBC_2.";
    let versions = program.windows(BEFORE.len() + 3).filter_map(|window| {
        let digits = window.strip_prefix(BEFORE)?;
        let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
        std::str::from_utf8(digits).ok()?.parse::<u32>().ok()
    });
    versions.max().unwrap_or(0)
}

/// The files of a folder, without those of folders in it.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn install(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Installs a folder with all that is in it, but for what Python leaves behind where it was run.
fn install_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in files(from)? {
        install(&file, &to.join(name(&file)), 0o644)?;
    }
    for entry in fs::read_dir(from)?.flatten().map(|entry| entry.path()) {
        if entry.is_dir() && name(&entry) != "__pycache__" {
            install_all(&entry, &to.join(name(&entry)))?;
        }
    }
    Ok(())
}

/// What it takes on a disk, about.
fn kib(tree: &Path) -> anyhow::Result<u64> {
    let mut sum = 1;
    for entry in fs::read_dir(tree)? {
        let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        sum += if metadata.is_dir() { kib(&path)? } else { metadata.len().div_ceil(1024) };
    }
    Ok(sum)
}

/// Whoever builds it may have made folders that only he can open.
fn open_folders(tree: &Path) -> anyhow::Result<()> {
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        if path.is_dir() {
            open_folders(&path)?;
        }
    }
    Ok(())
}

fn run_quietly(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("{} did not start", program.display()))?;
    ensure!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_counts() {
        assert_eq!(libc_minor(b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0"), 34);
        assert_eq!(libc_minor(b"\0"), 0);
    }
}
