//! Making records survive a power cut, apart from the journal so that appending goes on in the meantime.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::DiskFile;

/// A file that remembers a failed fsync.
pub(crate) struct SyncedFile {
    pub(crate) file: Box<dyn DiskFile>,
    failed: Mutex<bool>,
}

impl SyncedFile {
    pub(crate) fn new(file: Box<dyn DiskFile>) -> SyncedFile {
        SyncedFile { file, failed: Mutex::new(false) }
    }

    /// The kernel reports an error to one fsync, and the next one succeeds with the data lost. So they go one after the
    /// other, and none succeeds behind one that failed.
    fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(io::Error::other("an earlier fsync of this segment failed"));
        }
        let result = self.file.sync();
        *failed = result.is_err();
        result
    }
}

/// What is to be synced, for a thread that may block.
pub struct SyncJob {
    /// Sequence number, up to which offset, file.
    pub(crate) segments: Vec<(u32, u32, Arc<SyncedFile>)>,
}

/// What became of a [`SyncJob`].
pub struct SyncResult {
    pub(crate) segments: Vec<(u32, u32, io::Result<()>)>,
}

impl SyncJob {
    /// Waits for the disk.
    pub fn run(self) -> SyncResult {
        let sync = |(sequence, end, file): (u32, u32, Arc<SyncedFile>)| (sequence, end, file.sync());
        SyncResult { segments: self.segments.into_iter().map(sync).collect() }
    }
}
