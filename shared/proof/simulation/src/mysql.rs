//! MySQL: tables in memory, and transactions that fail before, after, late or not at all. Whether a transaction may be
//! written is decided by the real code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use footfall_shared::mysql::{Fences, StoreError, StoreFuture};
use footfall_shared::protocol::{
    Article, Batch, Committed, Conservation, Delta, Direct, Fence, Flush, Producer, ProducerBatches, Recovery, Row,
    Shard, StoredArticle, User,
};

use footfall_proof::{Invariant, Moment, Network, Who};

use crate::books::{Books, Numbers, Pair, Rows};
use crate::mutants::Mutant;
use crate::stage::{CLIENTS, Stage, clients, exchange, lock};

/// A user that MySQL refuses.
pub const POISON: &str = "poison";
/// The epoch at the beginning of every run.
const FIRST_EPOCH: u64 = 1;
/// As in the real store: for a transaction, and for anything else.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default)]
struct Tables {
    fences: BTreeMap<u16, Fence>,
    producers: BTreeMap<(u16, u64), Fenced>,
    direct: BTreeMap<(u16, u64), Fenced>,
    readers: BTreeMap<(Article, User), u64>,
    articles: BTreeMap<Article, (u64, u64)>,
    users: BTreeSet<User>,
    quarantine: Vec<(u16, Pair, u64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Fenced {
    batch: u64,
    views: u64,
    repeats: u64,
}

/// The database of a world.
pub struct Database {
    stage: Arc<Stage>,
    books: Arc<Books>,
    mutant: Option<Mutant>,
    tables: Mutex<Tables>,
    network: Mutex<[Network; CLIENTS]>,
    is_read_only: Mutex<bool>,
    /// Whether the next flush that is committed leaves the fence as it was.
    forgets_fence: Mutex<bool>,
}

impl Database {
    /// One as `footfall init` leaves it.
    #[must_use]
    pub fn new(stage: Arc<Stage>, books: Arc<Books>, shards: u16, mutant: Option<Mutant>) -> Arc<Self> {
        let fence = Fence { epoch: FIRST_EPOCH, flush_epoch: FIRST_EPOCH, ..Fence::default() };
        let tables = Tables { fences: (0..shards).map(|shard| (shard, fence)).collect(), ..Tables::default() };
        (0..shards).for_each(|shard| books.stored(shard, fence.position, fence.version, Numbers::new()));
        Arc::new(Self {
            stage,
            books,
            mutant,
            tables: Mutex::new(tables),
            network: Mutex::new([Network::CALM; CLIENTS]),
            is_read_only: Mutex::default(),
            forgets_fence: Mutex::default(),
        })
    }

    /// One client's way to it.
    #[must_use]
    pub fn client(self: &Arc<Self>, who: usize) -> Arc<dyn Fences> {
        Arc::new(Client { database: Arc::clone(self), who })
    }

    /// Changes the way of a client, or of all.
    pub fn network(&self, who: Who, network: Network) {
        let mut all = lock(&self.network);
        clients(who).for_each(|client| all[client] = network);
    }

    /// The next flush that is committed leaves the fence as it was, and its client does not hear that it was committed.
    pub fn forget_fence(&self) {
        *lock(&self.forgets_fence) = true;
    }

    /// Refuses writes, or takes them again.
    pub fn read_only(&self, is_read_only: bool) {
        *lock(&self.is_read_only) = is_read_only;
    }

    /// How many epochs were begun, by shard.
    #[must_use]
    pub fn epochs_begun(&self) -> Vec<u64> {
        lock(&self.tables).fences.values().map(|fence| fence.epoch - FIRST_EPOCH).collect()
    }

    /// Whether ingest has brought something by itself, by shard.
    #[must_use]
    pub fn went_directly(&self) -> Vec<bool> {
        let tables = lock(&self.tables);
        let has = |shard: &u16| tables.direct.range((*shard, 0)..=(*shard, u64::MAX)).next().is_some();
        tables.fences.keys().map(has).collect()
    }

    /// Views per article and user: counted, and in quarantine.
    #[must_use]
    pub fn counts(&self) -> (Rows, Rows) {
        let tables = lock(&self.tables);
        let pair = |article: &Article, user: &User| (article.as_str().to_owned(), user.as_str().to_owned());
        let counted = tables.readers.iter().map(|((article, user), views)| (pair(article, user), *views)).collect();
        let mut quarantined = Rows::new();
        for (_, pair, views) in &tables.quarantine {
            *quarantined.entry(pair.clone()).or_default() += views;
        }
        (counted, quarantined)
    }

    /// Views of an article that are in quarantine.
    #[must_use]
    pub fn refused(&self, article: &Article) -> u64 {
        let tables = lock(&self.tables);
        let of_article = tables.quarantine.iter().filter(|(_, (name, _), _)| name == article.as_str());
        of_article.map(|(.., views)| views).sum()
    }

    /// A shard's position, for a person.
    #[must_use]
    pub fn describe(&self, shard: u16) -> String {
        format!("mysql shard {shard}: {:?}", lock(&self.tables).fences.get(&shard))
    }

    /// What is wrong with the sums (I4, I9).
    #[must_use]
    pub fn audit(&self) -> Vec<String> {
        let tables = lock(&self.tables);
        let mut wrong = vec![];
        for (article, (views, readers)) in &tables.articles {
            let of_article = tables.readers.iter().filter(|((name, _), _)| name == article).map(|(_, views)| *views);
            let sums = of_article.fold((0, 0), |(sum, count), views| (sum + views, count + 1));
            if sums != (*views, *readers) {
                wrong.push(format!(
                    "{}: {article} has {views} views and {readers} readers, its rows say {sums:?}",
                    Invariant::I4
                ));
            }
        }
        let counted: u64 = tables.readers.values().sum();
        let quarantined: u64 = tables.quarantine.iter().map(|(.., views)| views).sum();
        let fenced = tables.producers.values().chain(tables.direct.values());
        let (cumulative, repeats) = fenced.fold((0, 0), |sum, fenced| (sum.0 + fenced.views, sum.1 + fenced.repeats));
        let conservation = Conservation {
            accepted: cumulative.into(),
            stored: counted.into(),
            quarantined: quarantined.into(),
            repeated: repeats.into(),
            ..Conservation::default()
        };
        if conservation.difference() != 0 {
            wrong.push(format!("{}: {conservation:?}", Invariant::I9));
        }
        let totals: u64 = tables.fences.values().map(|fence| fence.views).sum();
        if totals != counted {
            wrong.push(format!("{}: the totals say {totals} views, counted are {counted}", Invariant::I4));
        }
        wrong
    }
}

/// One client's way to the database.
struct Client {
    database: Arc<Database>,
    who: usize,
}

impl Client {
    /// One transaction, which is done whole or not at all, whatever its client hears of it.
    fn ask<T: Send + 'static>(
        &self,
        step: &'static str,
        patience: Duration,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let (database, who) = (Arc::clone(&self.database), self.who);
        Box::pin(async move {
            let network = lock(&database.network)[who];
            let network = if network.refused { network } else { database.stage.way(who, step, network) };
            let served = {
                let database = Arc::clone(&database);
                async move {
                    let answer = if step != "fence" && *lock(&database.is_read_only) {
                        Err(StoreError::timed_out(Duration::ZERO)) // Any error that says nothing else is graded alike.
                    } else {
                        work(&database)
                    };
                    database.stage.aims.reached(who, step, Moment::Reply);
                    Some(answer)
                }
            };
            let answer = exchange(&database.stage, network, patience, served).await;
            if answer.is_ok() {
                database.stage.aims.reached(who, step, Moment::Told);
            }
            answer.unwrap_or_else(|why| {
                database
                    .stage
                    .trace
                    .note("no answer", &[who as u64, why as u64], || format!("{step} by {who}: {why:?}"));
                Err(StoreError::timed_out(patience))
            })
        })
    }
}

impl Fences for Client {
    fn check_schema(&self, _: u16) -> StoreFuture<'_, ()> {
        self.ask("fence", PATIENCE, |_| Ok(()))
    }

    fn fence(&self, shard: Shard) -> StoreFuture<'_, Fence> {
        self.ask("fence", PATIENCE, move |database| Ok(lock(&database.tables).fences[&shard.0]))
    }

    fn next_epoch(&self, shard: Shard, epoch: u64) -> StoreFuture<'_, Option<Recovery>> {
        let who = self.who;
        if self.database.books.is_at_replica(who, shard.0) {
            let what = format!(
                "{who} begins an epoch of shard {shard}, although it talks to a replica: the one that is open on the master \
                 would end, and nobody could open the next"
            );
            self.database.stage.trace.violation(what);
        }
        self.ask("next_epoch", TRANSACTION_MAX, move |database| {
            let mut tables = lock(&database.tables);
            let producers = tables.producers.iter().filter(|((of, _), _)| *of == shard.0);
            let producers =
                producers.map(|((_, name), fenced)| (Producer(*name), fenced.batch, fenced.views)).collect();
            let fence = tables.fences.get_mut(&shard.0).expect("it was made with all shards");
            let is_next = fence.epoch == epoch;
            if is_next {
                fence.epoch += 1;
            }
            let Fence { epoch: now, position, flush_epoch, version, .. } = *fence;
            database
                .stage
                .trace
                .note("next_epoch", &[who as u64, now], || format!("by {who} after {epoch}: now {now}"));
            Ok(is_next.then_some(Recovery { epoch: now, position, flush_epoch, version, producers }))
        })
    }

    fn commit<'a>(&'a self, shard: Shard, epoch: u64, flush: &'a Flush) -> StoreFuture<'a, Committed> {
        let (flush, who) = (flush.clone(), self.who);
        self.ask("commit", TRANSACTION_MAX, move |database| {
            if database.mutant == Some(Mutant::PoisonStops) && flush.rows.iter().any(|row| row.user.as_str() == POISON)
            {
                return Err(StoreError::timed_out(Duration::ZERO)); // Any error that says nothing else is graded alike.
            }
            let before = lock(&database.forgets_fence).then(|| lock(&database.tables).positions());
            let committed = database.commit(shard, epoch, &flush);
            database.stage.trace.note("commit", &[who as u64, flush.first, flush.last], || {
                format!(
                    "by {who} epoch {epoch}: positions {}..={} {:?} -> {committed:?}",
                    flush.first, flush.last, flush.producers
                )
            });
            if matches!(committed, Committed::Fenced { .. }) {
                database.books.fenced();
            }
            if let (Committed::Now { .. }, Some(before)) = (&committed, before) {
                *lock(&database.forgets_fence) = false;
                lock(&database.tables).put_back(shard, before);
                return Err(StoreError::timed_out(Duration::ZERO)); // Any error that says nothing else is graded alike.
            }
            Ok(committed)
        })
    }

    fn commit_direct<'a>(&'a self, shard: Shard, batch: &'a Batch) -> StoreFuture<'a, Direct> {
        let (batch, who) = (batch.clone(), self.who);
        self.ask("commit_direct", PATIENCE, move |database| {
            let direct = database.commit_direct(shard, &batch);
            database.stage.trace.note("direct", &[who as u64, batch.number], || {
                format!("by {who}: batch {} of {} -> {direct:?}", batch.number, batch.producer)
            });
            Ok(direct)
        })
    }

    fn article<'a>(&'a self, shard: Shard, article: &'a Article) -> StoreFuture<'a, StoredArticle> {
        let article = article.clone();
        self.ask("fence", PATIENCE, move |database| {
            let (Fence { epoch, position, version, views: shard_views, .. }, views, readers) =
                database.look_up(shard.0, &article);
            Ok(StoredArticle { epoch, position, version, shard_views, views, readers })
        })
    }
}

impl Database {
    fn commit(&self, shard: Shard, epoch: u64, flush: &Flush) -> Committed {
        let tables = &mut *lock(&self.tables);
        let is_fenced = self.mutant != Some(Mutant::NoFence);
        let fence = tables.fences[&shard.0];
        let is_ignored = |refused: &Committed| match self.mutant {
            Some(Mutant::NoFence) => true,
            Some(Mutant::NoPositionAtCommit) => matches!(refused, Committed::Before { .. } | Committed::Hole { .. }),
            _ => false,
        };
        let known = if self.mutant == Some(Mutant::NoEpochAtCommit) { fence.epoch } else { epoch };
        if let Some(refused) = fence.refuses(known, flush.first).filter(|refused| !is_ignored(refused)) {
            return refused;
        }
        let mut lost = 0;
        for part in &flush.producers {
            let fenced = tables.producers.get(&(shard.0, part.producer.0)).copied().unwrap_or_default();
            match part.follows((fenced.batch, fenced.views)) {
                Some(views) => {
                    if views > 0 {
                        tables.quarantine.push((shard.0, Pair::default(), views));
                    }
                    lost += views;
                }
                None if is_fenced => return Committed::Gap { producer: part.producer },
                None => {}
            }
        }
        let (deltas, quarantined) = tables.store(shard, &flush.rows);
        for part in &flush.producers {
            tables.producers.entry((shard.0, part.producer.0)).or_default().raise(part);
        }
        let fence = tables.fences.get_mut(&shard.0).expect("it was made with all shards");
        // I5: looked at from outside, whatever the code above has decided.
        if is_fenced && (fence.position >= flush.first || fence.flush_epoch > epoch) {
            let what =
                format!("{}: position {} of epoch {epoch} was flushed behind {fence:?}", Invariant::I5, flush.first);
            self.stage.trace.violation(what);
        }
        fence.position = flush.last;
        fence.flush_epoch = epoch;
        let version = fence.version;
        self.note(shard, tables);
        Committed::Now { deltas, version, quarantined: quarantined + lost }
    }

    /// What a base at this position and version has to be.
    fn note(&self, shard: Shard, tables: &Tables) {
        let Fence { position, version, .. } = tables.fences[&shard.0];
        let shards = tables.fences.len() as u16;
        let own = tables.articles.iter().filter(|(article, _)| Shard::of(article, shards) == shard);
        self.books.stored(shard.0, position, version, own.map(|(article, sums)| (article.clone(), *sums)).collect());
    }

    /// The version before has flushed this.
    pub fn flushed_before(&self, shard: Shard, epoch: u64, flush: &Flush) {
        self.commit(shard, epoch, flush);
    }

    /// The fence of a shard, and the row of one of its articles.
    #[must_use]
    pub fn look_up(&self, shard: u16, article: &Article) -> (Fence, u64, u64) {
        let tables = lock(&self.tables);
        let (views, readers) = tables.articles.get(article).copied().unwrap_or_default();
        (tables.fences[&shard], views, readers)
    }

    fn commit_direct(&self, shard: Shard, batch: &Batch) -> Direct {
        let tables = &mut *lock(&self.tables);
        let fenced = tables.direct.get(&(shard.0, batch.producer.0)).copied().unwrap_or_default();
        if fenced.batch >= batch.number {
            return Direct::Before;
        }
        let part = ProducerBatches {
            producer: batch.producer,
            first: batch.number,
            last: batch.number,
            cumulative_views: batch.cumulative_views,
            views: batch.numbered_views(),
            repeats: batch.repeats,
        };
        let Some(lost) = part.follows((fenced.batch, fenced.views)) else {
            return Direct::Behind { number: fenced.batch };
        };
        if lost > 0 {
            tables.quarantine.push((shard.0, Pair::default(), lost));
        }
        let (_, quarantined) = tables.store(shard, &batch.rows);
        tables.direct.entry((shard.0, batch.producer.0)).or_default().raise(&part);
        tables.fences.get_mut(&shard.0).expect("it was made with all shards").version += 1;
        self.note(shard, tables);
        Direct::Now { quarantined: quarantined + lost }
    }
}

impl Fenced {
    fn raise(&mut self, part: &ProducerBatches) {
        self.batch = part.last;
        self.views = part.cumulative_views;
        self.repeats += part.repeats;
    }
}

/// The fences of all shards and of all producers.
type Positions = (BTreeMap<u16, Fence>, BTreeMap<(u16, u64), Fenced>);

impl Tables {
    fn positions(&self) -> Positions {
        (self.fences.clone(), self.producers.clone())
    }

    /// Sets a shard's position and its producers' fences back to what they were; what was counted stays counted.
    fn put_back(&mut self, shard: Shard, (fences, producers): Positions) {
        if let (Some(now), Some(before)) = (self.fences.get_mut(&shard.0), fences.get(&shard.0)) {
            (now.position, now.flush_epoch) = (before.position, before.flush_epoch);
        }
        self.producers = producers;
    }

    /// Adds rows and all sums; answers what each article grew by, and the views that went to quarantine instead.
    fn store(&mut self, shard: Shard, rows: &[Row]) -> (Vec<Delta>, u64) {
        let mut deltas: Vec<Delta> = vec![];
        let mut quarantined = 0;
        for Row { article, user, views } in rows {
            if user.as_str() == POISON {
                self.quarantine.push((shard.0, (article.as_str().into(), user.as_str().into()), *views));
                quarantined += views;
                continue;
            }
            let counted = self.readers.entry((article.clone(), user.clone())).or_default();
            let is_new = u64::from(*counted == 0);
            *counted += views;
            let sums = self.articles.entry(article.clone()).or_default();
            *sums = (sums.0 + views, sums.1 + is_new);
            self.users.insert(user.clone());
            let fence = self.fences.get_mut(&shard.0).expect("it was made with all shards");
            fence.views += views;
            fence.readers += is_new;
            match deltas.last_mut() {
                Some(part) if part.article == *article => {
                    part.views += views;
                    part.readers += is_new;
                }
                _ => deltas.push(Delta { article: article.clone(), views: *views, readers: is_new }),
            }
        }
        (deltas, quarantined)
    }
}
