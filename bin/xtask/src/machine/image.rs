//! What a new machine has on its disk: a Debian with its own Redis and MariaDB, made from Debian's packages and kept below
//! the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::packages;

/// Begins with the folder, and the name of the Debian.
///
/// Redis is told to keep an append-only file, as an administrator is asked to. What runs by the clock would disturb.
const RECIPE: &str = r#"
mmdebstrap --quiet --variant=minbase --format=directory \
    --include=systemd-sysv,dbus,procps,curl,redis-server,mariadb-server "$2" "$1/root"
cd "$1/root"
sed -i 's/^appendonly no/appendonly yes/' etc/redis/redis.conf
chroot . systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
mke2fs -q -t ext4 -d . ../disk 4G
cd ..
rm -rf root
"#;

/// The image below the target folder, made now unless it is there, after this recipe.
pub(super) fn cached() -> anyhow::Result<PathBuf> {
    ensure!(rustix::process::geteuid().is_root(), "it needs root");
    packages::ensure(packages::MACHINE)?;
    let folder = crate::target_dir().join("footfall-machine");
    fs::create_dir_all(crate::target_dir())?;
    // Tests run side by side: one makes it, the others wait.
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    if fs::read_to_string(folder.join("recipe")).is_ok_and(|recipe| recipe == RECIPE) {
        return Ok(folder.join("disk"));
    }
    let partial = folder.with_extension("partial");
    make(&partial).context("the image of a machine could not be made")?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(partial, &folder)?;
    Ok(folder.join("disk"))
}

fn make(folder: &Path) -> anyhow::Result<()> {
    // Programs that were built here must find their C library there.
    let release = fs::read_to_string("/etc/os-release")?;
    let debian = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let (Some(debian), true) = (debian, release.lines().any(|line| line == "ID=debian")) else {
        bail!("this machine is no Debian");
    };
    println!("Making the image of a machine in {} ...", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut make = Command::new("sh");
    make.args(["-euc", RECIPE, "make"]).arg(folder).arg(debian);
    let output = make.output().context("sh did not start")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(fs::write(folder.join("recipe"), RECIPE)?)
}
