//! What an import is read from, as UTF-8 without a byte order mark: a file or a pipe, packed by gzip or not.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::read::MultiGzDecoder;

use crate::Result;
use crate::failure::Failure;

/// The longest record. With a quotation mark that nothing closes, all the rest would be one.
const RECORD_BYTES_MAX: u64 = 1024 * 1024;
/// The first line has to end within this.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What is read at once.
const BUFFER: usize = 256 * 1024;

/// How other kinds of files begin, what they are, and what makes text of them.
const OTHERS: [(&[u8], &str, &str); 5] = [
    (b"PK\x03\x04", "a ZIP archive", "unzip -p"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "zstdcat"),
    (b"\xfd7zXZ\0", "packed by xz", "xzcat"),
    (b"BZh", "packed by bzip2", "bzcat"),
    (b"SQLite format 3\0", "an SQLite database", "sqlite3 -csv -header"),
];

/// What is read.
pub(super) struct Source {
    /// For sentences.
    pub(super) name: String,
    /// Its size, if that is known.
    pub(super) bytes: Option<u64>,
    reader: Box<dyn Read + Send>,
}

impl Source {
    /// Opens a file; `-` is the standard input.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            let reader = Box::new(io::stdin());
            return Ok(Self { name: "the standard input".into(), bytes: None, reader });
        }
        let name = path.display().to_string();
        let open = || {
            let file = File::open(path)?;
            let kind = file.metadata()?;
            if kind.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok((file, kind)) }
        };
        let (file, kind) = open().map_err(|error| Failure::file(format_args!("read {name}"), &error))?;
        Ok(Self { name, bytes: Some(kind.len()).filter(|_| kind.is_file()), reader: Box::new(file) })
    }

    /// What is in memory.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { name: "memory".into(), bytes: None, reader: Box::new(Cursor::new(bytes.to_vec())) }
    }

    /// Begins to read; `taken` counts the bytes of the file.
    pub(super) fn text(self, taken: Arc<AtomicU64>) -> Result<Text> {
        let refuse = |why: String| Failure::Usage(format!("{} {why}; nothing was counted", self.name));
        let reading = |error: io::Error| refuse(format!("cannot be read: {error}"));
        let (magic, raw) = peek(Counted { reader: self.reader, taken }, |begin| begin.len() >= 16).map_err(reading)?;
        if let Some((_, kind, command)) = OTHERS.iter().find(|(begin, ..)| magic.starts_with(begin)) {
            let pipe = format!("{command} FILE | footfall import -");
            return Err(refuse(format!("is {kind}: hand over the text in it, such as by `{pipe}`")));
        }
        let plain: Box<dyn Read + Send> = if magic.starts_with(b"\x1f\x8b") {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        // UTF-16 is told by its byte order mark, which goes; what has none is UTF-8.
        let utf8 = DecodeReaderBytesBuilder::new().utf8_passthru(true).strip_bom(true).build(plain);
        let is_whole = |begin: &[u8]| begin.contains(&b'\n') || begin.len() >= HEAD_BYTES_MAX;
        let (head, rest) = peek(utf8, is_whole).map_err(reading)?;
        if head.contains(&0) {
            let how = "`iconv -f UTF-16LE -t UTF-8 FILE | footfall import -`";
            return Err(refuse(format!(
                "holds zero bytes: it is UTF-16 without a byte order mark, or no text; try {how}"
            )));
        }
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        let limit = Arc::new(AtomicU64::new(RECORD_BYTES_MAX));
        Ok(Text {
            first_line: line,
            limit: Arc::clone(&limit),
            reader: Limited { reader: Box::new(rest), read: 0, limit },
        })
    }
}

/// UTF-8, as far as one can tell without reading it.
pub(super) struct Text {
    pub(super) first_line: Vec<u8>,
    pub(super) limit: Arc<AtomicU64>,
    pub(super) reader: Limited,
}

/// Moves the limit along: the record behind the byte `at` may be as long as any.
pub(super) fn allow_record(limit: &AtomicU64, at: u64) {
    limit.store(at + RECORD_BYTES_MAX, Ordering::Relaxed);
}

/// Whether the error is that of a record that does not end.
pub(super) fn is_too_long(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

/// Reads until there is enough; answers what was read, and a reader of everything.
#[expect(clippy::type_complexity, reason = "the bytes once to look at and once to read")]
fn peek<R: Read>(mut reader: R, is_enough: impl Fn(&[u8]) -> bool) -> io::Result<(Vec<u8>, Chain<Cursor<Vec<u8>>, R>)> {
    let mut begin = Vec::new();
    let mut some = vec![0; 4 * 1024];
    while !is_enough(&begin) {
        match reader.read(&mut some) {
            Ok(0) => break,
            Ok(read) => begin.extend_from_slice(&some[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((begin.clone(), Cursor::new(begin).chain(reader)))
}

/// Counts what is read.
struct Counted {
    reader: Box<dyn Read + Send>,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Reads up to the limit, and a buffer's length beyond it.
pub(super) struct Limited {
    reader: Box<dyn Read + Send>,
    read: u64,
    limit: Arc<AtomicU64>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read > self.limit.load(Ordering::Relaxed) + BUFFER as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.reader.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}
