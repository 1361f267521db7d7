//! The words of the counting protocol as types: ids, positions, batches. Pure: no clock, no I/O.

use std::fmt;

use sha2::{Digest, Sha256};

/// Longest article id, in bytes of UTF-8.
pub const ARTICLE_BYTES_MAX: usize = 255;
/// Longest user id, in bytes of UTF-8.
pub const USER_BYTES_MAX: usize = 128;
/// Longest view id, in bytes of UTF-8; a UUID has 36.
pub const VIEW_ID_BYTES_MAX: usize = 64;

/// The most views that an article has, or a reader of it: 2^53 - 1. Redis's scripts and JavaScript reckon in floating-point
/// numbers, which are exact up to here. MySQL takes no view beyond it: that view goes to quarantine. Sums over articles (of a
/// shard, of an hour, of the site) may be greater, and are shown as this number then.
pub const VIEWS_MAX: u64 = (1 << 53) - 1;
/// The most views that one row hands over: 10^12. It lies far below [`VIEWS_MAX`], so that one mistaken number in an
/// import does not fill an article for good.
pub const ROW_VIEWS_MAX: u64 = 1_000_000_000_000;

/// Why a number of views was refused; the text is what a person reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// Not a whole number above zero.
    #[error("`{0}` is no number of views: give a whole number from 1 to {ROW_VIEWS_MAX}")]
    NotANumber(String),
    /// Above [`ROW_VIEWS_MAX`].
    #[error("{0} views are too many: one reader of one article has at most {ROW_VIEWS_MAX} in one row")]
    RowTooLarge(String),
    /// Above [`VIEWS_MAX`].
    #[error("these are more views than can be counted: at most {VIEWS_MAX} together")]
    TotalTooLarge,
}

/// The views of one row, as a person writes them.
pub fn parse_views(text: &str) -> Result<u64, CountError> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CountError::NotANumber(text.to_owned()));
    }
    match text.parse() {
        Ok(0) => Err(CountError::NotANumber(text.to_owned())),
        Ok(views @ 1..=ROW_VIEWS_MAX) => Ok(views),
        _ => Err(CountError::RowTooLarge(text.to_owned())),
    }
}

/// Adds the views of a row to those that were handed over before it.
pub fn add_views(before: u64, views: u64) -> Result<u64, CountError> {
    before.checked_add(views).filter(|sum| *sum <= VIEWS_MAX).ok_or(CountError::TotalTooLarge)
}

/// The sum of counts. It stops at `u64::MAX`, which no counts reach that were let in; those that a damaged or older
/// store holds may, and they end no process.
pub fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// A count as it is shown: no greater than what every reader of it takes exactly.
#[must_use]
pub fn shown(count: u64) -> u64 {
    count.min(VIEWS_MAX)
}

/// Why an id was refused; the text is what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("the {0} id is empty: give 1 to {1} bytes of UTF-8")]
    Empty(&'static str, usize),
    /// Longer than the limit.
    #[error("the {0} id has {2} bytes: at most {1} are allowed")]
    TooLong(&'static str, usize, usize),
    /// Not UTF-8.
    #[error("the {0} id is not valid UTF-8")]
    NotUtf8(&'static str),
    /// Contains a control character, for example a line break.
    #[error("the {0} id contains a control character, which is not allowed")]
    Control(&'static str),
}

fn check<'a>(kind: &'static str, max: usize, raw: &'a [u8]) -> Result<&'a str, IdError> {
    if raw.is_empty() {
        return Err(IdError::Empty(kind, max));
    }
    if raw.len() > max {
        return Err(IdError::TooLong(kind, max, raw.len()));
    }
    let text = std::str::from_utf8(raw).map_err(|_| IdError::NotUtf8(kind))?;
    if text.chars().any(char::is_control) {
        return Err(IdError::Control(kind));
    }
    Ok(text)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks length, UTF-8 and control characters.
            pub fn parse(raw: &[u8]) -> Result<Self, IdError> {
                check($kind, $max, raw).map(|text| Self(text.into()))
            }

            /// The same without keeping it.
            pub fn check(raw: &[u8]) -> Result<&str, IdError> {
                check($kind, $max, raw)
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id as the bytes by which it is compared, in Redis and in MySQL alike.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// What is read. Ids compare by bytes: `A` is not `a`, and a trailing space counts.
    Article, "article", ARTICLE_BYTES_MAX
);
id!(
    /// Who reads. Compared by bytes, like [`Article`].
    User, "user", USER_BYTES_MAX
);

id!(
    /// What a client calls one view, so that it can send it again without its being counted again.
    ViewId, "view", VIEW_ID_BYTES_MAX
);

/// One read of one article by one user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    /// What was read.
    pub article: Article,
    /// Who read it.
    pub user: User,
    /// The client's name for this view, if it gave one.
    pub id: Option<ViewId>,
}

/// One slice of all articles; every Redis key and every fence belongs to exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl Shard {
    /// The shard of `article` among `shards`. Part of the stored format: changing the hash
    /// would move articles away from their pending views.
    #[must_use]
    pub fn of(article: &Article, shards: u16) -> Self {
        if shards <= 1 {
            return Self(0);
        }
        let hash = crc32fast::hash(article.as_bytes());
        Self(u16::try_from(hash % u32::from(shards)).expect("a remainder is below its u16 divisor"))
    }

    /// All shards, in order.
    pub fn all(shards: u16) -> impl Iterator<Item = Self> {
        (0..shards).map(Self)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of one ingest process. A restarted process is a new producer, so that its batch
/// numbers can begin at 1 again without being taken for repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer(pub u64);

impl Producer {
    /// A random producer id.
    #[must_use]
    pub fn random() -> Self {
        Self(crate::service::random::number())
    }

    /// The id from its text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How often one user read one article, within a batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// What was read.
    pub article: Article,
    /// Who read it.
    pub user: User,
    /// How often; at least 1.
    pub views: u64,
}

/// The views that one producer hands over under one number, to Redis or, while Redis is away, to MySQL.
/// A repeat under the same number is the same batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Who sends it.
    pub producer: Producer,
    /// 1, 2, 3, ... without holes, per producer, shard and path.
    pub number: u64,
    /// Views of this producer, shard and path up to and including this batch, repeats too. The audit (I9)
    /// compares its flushed value with the counts in MySQL.
    pub cumulative_views: u64,
    /// When it was built: minutes since 1970 UTC. Only sorts views into hours and minutes.
    pub minute: u32,
    /// Views left out because their id was counted before.
    pub repeats: u64,
    /// Sorted by (article, user), each pair once.
    pub rows: Vec<Row>,
    /// The views in `rows` that have an id. Redis does not keep them with the batch, the journal does.
    pub ids: Vec<Identified>,
}

/// A view in a batch that can be told from all others of the same article and user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identified {
    /// The client's name for it.
    pub id: ViewId,
    /// What was read.
    pub article: Article,
    /// Who read it.
    pub user: User,
}

impl Identified {
    /// By what Redis remembers it: 16 bytes, however long its parts are, of SHA-256 over them, each behind its length, so
    /// that no two views have the same text. Part of the stored format.
    ///
    /// Without a key, which all ingests would have to share and never lose: to suppress somebody else's view one has to
    /// find another with the very hash of that one, which takes 2^128 tries. Two views of one's own that collide take
    /// 2^64, and then it is one's own view that does not count. Article and user are in it, so that nobody's id is in the
    /// way of a view of another article, or of another user.
    #[must_use]
    pub fn hash(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        for part in [self.id.as_bytes(), self.article.as_bytes(), self.user.as_bytes()] {
            hash.update(u16::try_from(part.len()).expect("ids are short").to_be_bytes());
            hash.update(part);
        }
        *hash.finalize().first_chunk().expect("it has 32 bytes")
    }
}

impl Batch {
    /// Folds views into the next batch of a producer that has sent `number - 1` batches with
    /// `views_before` views.
    #[must_use]
    pub fn fold(producer: Producer, number: u64, views_before: u64, minute: u32, mut views: Vec<View>) -> Self {
        let cumulative_views = views_before.saturating_add(views.len() as u64);
        views.sort_unstable();
        let mut rows: Vec<Row> = Vec::with_capacity(views.len());
        let (mut ids, mut repeats): (Vec<Identified>, _) = (Vec::new(), 0);
        for View { article, user, id } in views {
            if let Some(id) = id {
                let view = Identified { id, article: article.clone(), user: user.clone() };
                // Sorted as they are, the same ones stand side by side.
                if ids.last() == Some(&view) {
                    repeats += 1;
                    continue;
                }
                ids.push(view);
            }
            match rows.last_mut() {
                Some(row) if row.article == article && row.user == user => row.views += 1,
                _ => rows.push(Row { article, user, views: 1 }),
            }
        }
        Self { producer, number, cumulative_views, minute, repeats, rows, ids }
    }

    /// A batch that takes the place of one whose content was lost, so that those behind it can follow.
    #[must_use]
    pub fn lost(producer: Producer, number: u64, cumulative_views: u64) -> Self {
        Self { producer, number, cumulative_views, minute: 0, repeats: 0, rows: vec![], ids: vec![] }
    }

    /// Leaves out the views whose ids, by position in `ids`, were counted before.
    pub fn leave_out(&mut self, counted_before: &[usize]) {
        let mut position = 0;
        let rows = &mut self.rows;
        self.ids.retain(|view| {
            let is_counted = counted_before.contains(&position);
            position += 1;
            if is_counted
                && let Ok(at) = rows.binary_search_by(|row| (&row.article, &row.user).cmp(&(&view.article, &view.user)))
            {
                rows[at].views -= 1;
                if rows[at].views == 0 {
                    rows.remove(at);
                }
            }
            !is_counted
        });
        self.repeats = self.repeats.saturating_add(counted_before.len() as u64);
    }

    /// Views in this batch that count.
    #[must_use]
    pub fn views(&self) -> u64 {
        total(self.rows.iter().map(|row| row.views))
    }

    /// Views that its producer numbered with it: those that count, and repeats.
    #[must_use]
    pub fn numbered_views(&self) -> u64 {
        self.views().saturating_add(self.repeats)
    }

    /// Views of this producer, shard and path before this batch; more than the batch before it says if that one, or
    /// some before it, were lost.
    #[must_use]
    pub fn views_before(&self) -> u64 {
        self.cumulative_views.saturating_sub(self.numbered_views())
    }

    /// Views per distinct article, in article order.
    pub fn articles(&self) -> impl Iterator<Item = (&Article, u64)> {
        self.rows
            .chunk_by(|a, b| a.article == b.article)
            .map(|rows| (&rows[0].article, total(rows.iter().map(|row| row.views))))
    }
}

/// What a flush added to one article; the cached value moves along with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Which article.
    pub article: Article,
    /// Views that were added.
    pub views: u64,
    /// New readers.
    pub readers: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(article: &str, user: &str) -> View {
        View {
            article: Article::parse(article.as_bytes()).expect("test id"),
            user: User::parse(user.as_bytes()).expect("test id"),
            id: None,
        }
    }

    #[test]
    fn ids_are_checked_by_bytes() {
        assert!(Article::parse(&[b'a'; 255]).is_ok());
        assert_eq!(Article::parse(&[b'a'; 256]), Err(IdError::TooLong("article", 255, 256)));
        assert_eq!(User::parse(b""), Err(IdError::Empty("user", 128)));
        assert_eq!(User::parse(b"\xff"), Err(IdError::NotUtf8("user")));
        assert_eq!(Article::parse(b"a\nb"), Err(IdError::Control("article")));
        assert_ne!(Article::parse(b"A"), Article::parse(b"a"));
        assert_ne!(Article::parse(b"a "), Article::parse(b"a"));
        assert!(Article::parse("{}'\"<script>\u{1f600}".as_bytes()).is_ok());
    }

    #[test]
    fn a_number_of_views_is_within_its_limit_or_refused_with_a_sentence() {
        for (text, views) in [("1", 1), (" 7 ", 7), ("007", 7), ("1000000000000", ROW_VIEWS_MAX)] {
            assert_eq!(parse_views(text), Ok(views));
        }
        for text in ["", "0", "-1", "+1", "1.5", "1e3", "x", "\u{661}"] {
            assert_eq!(parse_views(text), Err(CountError::NotANumber(text.into())), "{text}");
        }
        for text in ["1000000000001", "9007199254740993", "18446744073709551615", "99999999999999999999999"] {
            let refused = parse_views(text).expect_err("too many").to_string();
            assert!(refused.contains(text) && refused.contains("at most 1000000000000 "), "{refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn sums_of_any_counts_end_no_process(a: u64, b: u64, c: u64) {
            let sum = u128::from(a) + u128::from(b) + u128::from(c);
            proptest::prop_assert_eq!(u128::from(total([a, b, c])), sum.min(u128::from(u64::MAX)));
            proptest::prop_assert_eq!(add_views(a, b).ok(), a.checked_add(b).filter(|sum| *sum <= VIEWS_MAX));
            let row = |views| Row { article: view("a", "u").article, user: view("a", "u").user, views };
            let batch = Batch {
                producer: Producer(1), number: a, cumulative_views: b, minute: 0, repeats: c,
                rows: vec![row(a), row(b)], ids: vec![],
            };
            let _ = (batch.views(), batch.numbered_views(), batch.views_before(), batch.articles().count());
            proptest::prop_assert!(Batch::fold(Producer(1), a, b, 0, vec![view("a", "u")]).cumulative_views >= b);
        }
    }

    #[test]
    fn folding_counts_each_view_once() {
        let views = vec![view("b", "1"), view("a", "2"), view("b", "1"), view("a", "1")];
        let batch = Batch::fold(Producer(7), 3, 10, 0, views);
        assert_eq!(batch.views(), 4);
        assert_eq!(batch.cumulative_views, 14);
        let articles: Vec<_> = batch.articles().map(|(article, views)| (article.as_str(), views)).collect();
        assert_eq!(articles, [("a", 2), ("b", 2)]);
        assert_eq!(batch.rows.len(), 3);
    }

    #[test]
    fn a_view_with_an_id_counts_once() {
        let named = |id: &str, article: &str| View {
            id: Some(ViewId::parse(id.as_bytes()).expect("test id")),
            ..view(article, "1")
        };
        let views = vec![named("x", "a"), view("a", "1"), named("x", "a"), named("y", "b")];
        let mut batch = Batch::fold(Producer(7), 3, 10, 0, views);
        assert_eq!((batch.views(), batch.repeats, batch.cumulative_views, batch.views_before()), (3, 1, 14, 10));
        let y = batch.ids.iter().position(|view| view.id.as_str() == "y").expect("kept");
        batch.leave_out(&[y]);
        assert_eq!((batch.views(), batch.repeats, batch.rows.len(), batch.ids.len()), (2, 2, 1, 1));
        batch.leave_out(&[0]);
        assert_eq!((batch.views(), batch.repeats, batch.rows[0].views, batch.views_before()), (1, 3, 1, 10));
    }

    #[test]
    fn an_id_is_in_nobody_elses_way() {
        let named = |id: &str, article: &str, user: &str| View {
            id: Some(ViewId::parse(id.as_bytes()).expect("test id")),
            ..view(article, user)
        };
        let views = vec![
            named("order-4711", "decoy", "1"),
            named("order-4711", "today", "1"),
            named("order-4711", "today", "2"),
            named("order-4711", "today", "1"),
        ];
        let batch = Batch::fold(Producer(7), 1, 0, 0, views);
        assert_eq!((batch.views(), batch.repeats, batch.ids.len()), (3, 1, 3));
        // Nor is one whose parts are cut elsewhere.
        let mut views =
            vec![named("ab", "c", "d"), named("a", "bc", "d"), named("a", "b", "cd"), named("abc", "d", "d")];
        views.extend([named("d", "ab", "c"), named("c", "d", "ab")]);
        let hashes: std::collections::BTreeSet<_> =
            Batch::fold(Producer(7), 1, 0, 0, views).ids.iter().map(Identified::hash).collect();
        assert_eq!(hashes.len(), 6);
    }

    #[test]
    fn the_hash_of_a_view_is_part_of_the_stored_format() {
        let View { article, user, .. } = view("today", "7");
        let view = Identified { id: ViewId::parse(b"order-4711").expect("test id"), article, user };
        // printf '\0\12order-4711\0\5today\0\0017' | sha256sum
        assert_eq!(u128::from_be_bytes(view.hash()), 0x070a_76dd_338e_ed98_c931_b2c5_e8dd_3b26);
    }

    #[test]
    fn the_shard_of_an_article_is_part_of_the_stored_format() {
        let article = Article::parse(b"yumo").expect("test id");
        assert_eq!(Shard::of(&article, 1), Shard(0));
        assert_eq!(Shard::of(&article, 16), Shard((crc32fast::hash(b"yumo") % 16) as u16));
    }
}
