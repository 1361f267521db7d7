//! Views, and how they are folded into batches.

use sha2::{Digest, Sha256};

use super::ids::{Article, Producer, User, ViewId};
use super::views::total;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::views::{VIEWS_MAX, add_views};

    fn view(article: &str, user: &str) -> View {
        View {
            article: Article::parse(article.as_bytes()).expect("test id"),
            user: User::parse(user.as_bytes()).expect("test id"),
            id: None,
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
}
