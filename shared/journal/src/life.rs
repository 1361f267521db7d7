//! The folder of one life of a process, which is alive as long as it holds the folder's lock.

use std::io;
use std::sync::Arc;
use std::thread;

use crate::Disk;
use crate::segment::{life_name, parse_life, parse_segment};

/// How often [`Life::begin`] tries again when an adopter looks into the new folder before it is locked.
const BEGIN_ATTEMPTS: u32 = 100;

/// This life's folder, locked until this and every journal in it are dropped.
pub struct Life {
    pub(crate) folder: Arc<LifeFolder>,
}

/// What the journals of a life, living or dead, share.
pub(crate) struct LifeFolder {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) life: u64,
    pub(crate) _lock: Box<dyn Send + Sync>,
}

impl Life {
    /// Creates and locks the folder of a new life. The name has 16 hex digits in lower case, which must be random.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for another kind of name, `AlreadyExists` if the name is taken, and what the disk says.
    pub fn begin(disk: Arc<dyn Disk>, name: &str) -> io::Result<Life> {
        let life = parse_life(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a life's name has 16 hex digits"))?;
        for _ in 0..BEGIN_ATTEMPTS {
            disk.create_folder(name)?;
            match disk.lock(name) {
                Ok(Some(lock)) => {
                    let folder = LifeFolder { disk, life, _lock: lock };
                    if !folder.is_empty()? {
                        break;
                    }
                    return Ok(Life { folder: Arc::new(folder) });
                }
                // An adopter was faster and takes the new folder for a dead one. It finds nothing and removes it.
                Ok(None) => thread::yield_now(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there is a life {name} already")))
    }

    /// The name it began with.
    pub fn name(&self) -> String {
        life_name(self.folder.life)
    }

    /// Removes the folder if no journal has anything left in it, and answers whether it did. Otherwise the next life
    /// adopts it. Comes after [`Journal::end`](crate::Journal::end) for each journal.
    pub fn end(self) -> io::Result<bool> {
        self.folder.remove_if_empty()
    }
}

impl LifeFolder {
    /// Removes the folder if there is no segment in it, and answers whether it did.
    pub(crate) fn remove_if_empty(&self) -> io::Result<bool> {
        let is_empty = self.is_empty()?;
        if is_empty {
            self.disk.remove_folder(&life_name(self.life))?;
        }
        Ok(is_empty)
    }

    fn is_empty(&self) -> io::Result<bool> {
        let names = match self.disk.list(&life_name(self.life)) {
            // Journals of a dead life finish on their own; the other one that was the last has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            names => names?,
        };
        Ok(!names.iter().any(|name| parse_segment(self.life, name).is_some()))
    }
}
