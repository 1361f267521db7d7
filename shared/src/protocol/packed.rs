//! A batch as the bytes that Redis and the journal keep until MySQL has them. Pure.
//!
//! One version byte, then unsigned LEB128 numbers and length-prefixed ids, the rows of one article together so that its id
//! is stored once, and the CRC32C of all that. Redis never looks inside. Redis and the journal hold the same bytes, packed
//! once; a record of the journal holds more beside them, see [`Record`].

use std::sync::Arc;

use super::batch::{Batch, Identified, Row};
use super::ids::{Article, Producer, User, ViewId};
use super::views::{ROW_VIEWS_MAX, VIEWS_MAX};

const VERSION: u8 = 3;
/// Without a checksum: what the version before has left in Redis and in journals.
const VERSION_BEFORE: u8 = 2;

/// Why bytes are not a batch. Never guessed around: the caller sets the log aside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackedError {
    /// Written by a newer Footfall, or not a batch at all.
    #[error("unknown batch format {0}")]
    Version(u8),
    /// Ends too early.
    #[error("the batch is cut off")]
    CutOff,
    /// Bytes behind the end, a number too large, an id that breaks the rules, or counts that nobody can have sent.
    #[error("the batch is damaged: {0}")]
    Damaged(&'static str),
}

/// How a batch gets to MySQL. It is decided once, when the batch is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// Through Redis and the flusher.
    Redis,
    /// From ingest, while Redis is away.
    Direct,
}

/// A batch as it is kept and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Who sends it.
    pub producer: Producer,
    /// See [`Batch::number`].
    pub number: u64,
    /// Views in it that count.
    pub views: u64,
    /// See [`Batch::cumulative_views`].
    pub cumulative_views: u64,
    /// See [`Batch::views_before`].
    pub views_before: u64,
    /// All of it, but for the ids of its views.
    pub bytes: Arc<[u8]>,
    /// See [`Batch::ids`].
    pub ids: Vec<Identified>,
}

impl Packed {
    /// Packs a batch.
    #[must_use]
    pub fn new(batch: Batch) -> Self {
        let bytes = encode(&batch).into();
        Self::of(batch, bytes)
    }

    fn of(batch: Batch, bytes: Arc<[u8]>) -> Self {
        let (views, views_before) = (batch.views(), batch.views_before());
        let Batch { producer, number, cumulative_views, ids, .. } = batch;
        Self { producer, number, views, cumulative_views, views_before, bytes, ids }
    }

    /// Unpacks it.
    pub fn batch(&self) -> Result<Batch, PackedError> {
        Ok(Batch { ids: self.ids.clone(), ..decode(&self.bytes)? })
    }

    /// The same without the views whose ids, by position in `ids`, were counted before.
    pub fn without(&self, counted_before: &[usize]) -> Result<Self, PackedError> {
        let mut batch = self.batch()?;
        batch.leave_out(counted_before);
        Ok(Self::new(batch))
    }

    /// About the memory that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.ids.len() * 96
    }
}

/// What the journal holds of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its path.
    pub path: Path,
    /// MySQL had all batches of the producer on this path up to this number when the record was written. Batches between
    /// this and the first that is found are lost, and no longer needed otherwise.
    pub stored: u64,
    /// The batch, with the ids of its views, so that a repeat finds the same ones counted.
    pub batch: Packed,
}

/// Packs a [`Record`].
#[must_use]
pub fn encode_record(path: Path, stored: u64, batch: &Packed) -> Vec<u8> {
    let mut out = Vec::with_capacity(batch.bytes.len() + 16 + batch.ids.len() * 48);
    out.push(match path {
        Path::Redis => 0,
        Path::Direct => 1,
    });
    put(&mut out, stored);
    put_bytes(&mut out, &batch.bytes);
    for view in &batch.ids {
        put_bytes(&mut out, view.id.as_bytes());
        put_bytes(&mut out, view.article.as_bytes());
        put_bytes(&mut out, view.user.as_bytes());
    }
    out
}

/// Unpacks what [`encode_record`] packed.
pub fn decode_record(bytes: &[u8]) -> Result<Record, PackedError> {
    let mut rest = bytes;
    let path = match take_array(&mut rest)? {
        [0] => Path::Redis,
        [1] => Path::Direct,
        [_] => return Err(PackedError::Damaged("unknown path")),
    };
    let stored = take_count(&mut rest)?;
    let bytes = take_bytes(&mut rest)?;
    let mut batch = decode(bytes)?;
    while !rest.is_empty() {
        let id = ViewId::parse(take_bytes(&mut rest)?).map_err(|_| PackedError::Damaged("view id"))?;
        let article = Article::parse(take_bytes(&mut rest)?).map_err(|_| PackedError::Damaged("article id"))?;
        let user = User::parse(take_bytes(&mut rest)?).map_err(|_| PackedError::Damaged("user id"))?;
        batch.ids.push(Identified { id, article, user });
    }
    Ok(Record { path, stored, batch: Packed::of(batch, bytes.into()) })
}

/// Packs a batch whose rows are sorted by article, without the ids of its views.
#[must_use]
pub fn encode(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::with_capacity(36 + batch.rows.len() * 24);
    out.push(VERSION);
    out.extend_from_slice(&batch.producer.0.to_be_bytes());
    put(&mut out, batch.number);
    put(&mut out, batch.cumulative_views);
    put(&mut out, u64::from(batch.minute));
    put(&mut out, batch.repeats);
    for rows in batch.rows.chunk_by(|a, b| a.article == b.article) {
        put_bytes(&mut out, rows[0].article.as_bytes());
        put(&mut out, rows.len() as u64);
        for row in rows {
            put_bytes(&mut out, row.user.as_bytes());
            put(&mut out, row.views);
        }
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Unpacks what [`encode`] packed.
pub fn decode(bytes: &[u8]) -> Result<Batch, PackedError> {
    let (mut rows, mut current) = (Vec::new(), None);
    let head = walk(bytes, |part| {
        match part {
            Element::Article(article) => {
                current = Some(Article::parse(article).map_err(|_| PackedError::Damaged("article id"))?);
            }
            Element::Row { user, views } => {
                let user = User::parse(user).map_err(|_| PackedError::Damaged("user id"))?;
                let article = current.clone().ok_or(PackedError::Damaged("a row of no article"))?;
                rows.push(Row { article, user, views });
            }
        }
        Ok(())
    })?;
    let Head { producer, number, cumulative_views, minute, repeats } = head;
    let batch = Batch { producer, number, cumulative_views, minute, repeats, rows, ids: vec![] };
    if batch.numbered_views() > cumulative_views {
        return Err(PackedError::Damaged("more views than were ever sent"));
    }
    Ok(batch)
}

/// Views per article in a packed batch, in article order, without unpacking its readers.
pub(crate) fn views_of_articles(bytes: &[u8]) -> Result<Vec<(&str, u64)>, PackedError> {
    let mut articles: Vec<(&str, u64)> = Vec::new();
    walk(bytes, |part| {
        match part {
            Element::Article(article) => {
                articles.push((Article::check(article).map_err(|_| PackedError::Damaged("article id"))?, 0));
            }
            Element::Row { views, .. } => {
                if let Some((_, sum)) = articles.last_mut() {
                    *sum = sum.saturating_add(views);
                }
            }
        }
        Ok(())
    })?;
    Ok(articles)
}

/// What a batch says of itself.
struct Head {
    producer: Producer,
    number: u64,
    cumulative_views: u64,
    minute: u32,
    repeats: u64,
}

/// What comes behind the head.
enum Element<'a> {
    /// The rows of this article follow.
    Article(&'a [u8]),
    Row {
        user: &'a [u8],
        views: u64,
    },
}

/// Goes through a packed batch.
fn walk<'a>(
    bytes: &'a [u8],
    mut take_element: impl FnMut(Element<'a>) -> Result<(), PackedError>,
) -> Result<Head, PackedError> {
    let mut rest = match bytes.first() {
        Some(&VERSION) => {
            let (rest, crc) = bytes.split_last_chunk().ok_or(PackedError::CutOff)?;
            if crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
                return Err(PackedError::Damaged("its checksum is another"));
            }
            &rest[1..]
        }
        Some(&VERSION_BEFORE) => &bytes[1..],
        Some(other) => return Err(PackedError::Version(*other)),
        None => return Err(PackedError::CutOff),
    };
    let producer = Producer(u64::from_be_bytes(take_array(&mut rest)?));
    let number = take_count(&mut rest)?;
    if number == 0 {
        return Err(PackedError::Damaged("a number of zero"));
    }
    let cumulative_views = take_count(&mut rest)?;
    let minute = u32::try_from(take(&mut rest)?).map_err(|_| PackedError::Damaged("minute too large"))?;
    let repeats = take_count(&mut rest)?;
    while !rest.is_empty() {
        take_element(Element::Article(take_bytes(&mut rest)?))?;
        for _ in 0..take(&mut rest)? {
            let (user, views) = (take_bytes(&mut rest)?, take(&mut rest)?);
            if !(1..=ROW_VIEWS_MAX).contains(&views) {
                return Err(PackedError::Damaged("a count of zero, or above its limit"));
            }
            take_element(Element::Row { user, views })?;
        }
    }
    Ok(Head { producer, number, cumulative_views, minute, repeats })
}

/// A number of views or of a batch: the sums and successors of those that are let in here do not overflow.
fn take_count(rest: &mut &[u8]) -> Result<u64, PackedError> {
    let count = take(rest)?;
    if count > VIEWS_MAX { Err(PackedError::Damaged("a number above its limit")) } else { Ok(count) }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take(rest: &mut &[u8]) -> Result<u64, PackedError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take_array(rest)?;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits {
            return Err(PackedError::Damaged("number too large"));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(PackedError::Damaged("number too long"))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PackedError> {
    let len = usize::try_from(take(rest)?).map_err(|_| PackedError::CutOff)?;
    let (bytes, tail) = rest.split_at_checked(len).ok_or(PackedError::CutOff)?;
    *rest = tail;
    Ok(bytes)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PackedError> {
    let (bytes, tail) = rest.split_first_chunk().ok_or(PackedError::CutOff)?;
    *rest = tail;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::View;
    use proptest::prelude::*;

    fn views() -> impl Strategy<Value = Vec<View>> {
        let id = "[a-c{}'\u{e9}\u{1f600} ]{1,8}";
        prop::collection::vec((id, id, prop::option::of("[xyz]{1,3}")), 0..50).prop_map(|views| {
            views
                .into_iter()
                .map(|(article, user, id)| View {
                    article: Article::parse(article.as_bytes()).expect("matches the rule"),
                    user: User::parse(user.as_bytes()).expect("matches the rule"),
                    id: id.map(|id| ViewId::parse(id.as_bytes()).expect("matches the rule")),
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(views in views(), number in 1..=VIEWS_MAX, before in 0..VIEWS_MAX - 50, minute: u32) {
            let batch = Batch::fold(Producer(u64::MAX), number, before, minute, views);
            prop_assert_eq!(decode(&encode(&batch)), Ok(Batch { ids: vec![], ..batch.clone() }));
            for path in [Path::Redis, Path::Direct] {
                let packed = Packed::new(batch.clone());
                prop_assert_eq!(packed.batch(), Ok(batch.clone()));
                let articles: Vec<_> = batch.articles().map(|(article, views)| (article.as_str(), views)).collect();
                prop_assert_eq!(views_of_articles(&packed.bytes), Ok(articles));
                let record = Record { path, stored: before, batch: packed.clone() };
                prop_assert_eq!(decode_record(&encode_record(path, before, &packed)), Ok(record));
            }
        }

        #[test]
        fn counts_above_their_limits_are_damage(number: u64, cumulative_views: u64, repeats: u64, views: u64) {
            let id = |text: &str| (Article::parse(text.as_bytes()).expect("test id"), User::parse(text.as_bytes()).expect("test id"));
            let (article, user) = id("a");
            let rows = vec![Row { article, user, views }];
            let batch = Batch { producer: Producer(1), number, cumulative_views, minute: 0, repeats, rows, ids: vec![] };
            let is_right = (1..=VIEWS_MAX).contains(&number)
                && (1..=ROW_VIEWS_MAX).contains(&views)
                && cumulative_views <= VIEWS_MAX
                && views.checked_add(repeats).is_some_and(|views| views <= cumulative_views);
            prop_assert_eq!(decode(&encode(&batch)).is_ok(), is_right);
        }

        #[test]
        fn damage_is_found(views in views(), cut: prop::sample::Index, flip: prop::sample::Index, bit in 0u8..8) {
            let good = encode(&Batch::fold(Producer(1), 1, 0, 0, views));
            let mut bytes = good.clone();
            bytes[flip.index(good.len())] ^= 1u8 << bit;
            // The version of one byte is not in doubt where another version is read, which has no checksum.
            if bytes[0] != VERSION_BEFORE {
                prop_assert!(decode(&bytes).is_err() && views_of_articles(&bytes).is_err());
            }
            prop_assert!(decode(&good[..cut.index(good.len())]).is_err());
        }

        #[test]
        fn what_the_version_before_has_left_is_read_and_its_damage_is_no_panic(views in views(), flip: prop::sample::Index) {
            let batch = Batch { ids: vec![], ..Batch::fold(Producer(1), 1, 0, 0, views) };
            let mut bytes = encode(&batch);
            bytes.truncate(bytes.len() - 4);
            bytes[0] = VERSION_BEFORE;
            prop_assert_eq!(decode(&bytes), Ok(batch));
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x80;
            let _ = decode(&bytes);
        }
    }
}
