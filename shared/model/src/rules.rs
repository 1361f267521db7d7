//! The rules of the protocol, each of which can be switched off.

macro_rules! rules {
    ($($(#[doc = $meaning:literal])+ $name:ident,)+) => {
        /// Which rules hold. All of them in the real protocol; a mutant lacks exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Rules {
            $($(#[doc = $meaning])+ pub $name: bool,)+
        }

        impl Rules {
            /// The real protocol.
            pub const ALL: Self = Self { $($name: true,)+ };

            /// Every rule by its name, with the protocol that lacks just this one.
            #[must_use]
            pub fn mutants() -> Vec<(&'static str, Self)> {
                vec![$((stringify!($name), Self { $name: false, ..Self::ALL }),)+]
            }
        }
    };
}

rules! {
    /// COMMIT: a flush under another epoch than the fence's is refused.
    commit_checks_epoch,
    /// COMMIT: a generation up to the fence's is skipped, because MySQL has it.
    commit_checks_generation,
    /// COMMIT: a generation that does not follow the fence's stops the flush.
    commit_checks_hole,
    /// COMMIT: every producer's first batch must follow its fence.
    commit_checks_producers,
    /// READ of a sealed generation: only from the data set of the epoch that the flush will commit under.
    read_checks_epoch,
    /// APPLY: a request under another epoch than the data set's is refused.
    apply_checks_epoch,
    /// APPLY: a data set that was not opened in this life of its server takes nothing.
    apply_checks_incarnation,
    /// APPLY: a number that the data set has is not appended again.
    apply_skips_repeats,
    /// APPLY appends to the open generation only.
    sealed_is_immutable,
    /// A batch is retained until `first` passes its generation, not only until Redis has taken it.
    retained_until_flushed,
    /// The generation of a batch, as a reply told it, is forgotten when the epoch changes.
    marks_end_with_epoch,
    /// REOPEN: only the data set that STATE has seen: same life of the server, epoch, `first` and open generation.
    reopen_is_exact,
    /// REOPEN is sent once per epoch: no retry after a lost reply.
    reopen_once,
    /// REOPEN: a history older than the last flush is set aside.
    overtaken_is_set_aside,
    /// REOPEN: generations up to the fence's are dropped.
    reopen_drops_flushed,
    /// REOPEN: the new open generation lies beyond the fence's and beyond every one of the data set.
    opens_past_both,
    /// REOPEN: producers are raised to their fences.
    producers_are_raised,
    /// The next epoch begins in MySQL before a data set is opened under it.
    epoch_before_reopen,
    /// NEXT_EPOCH: compare-and-swap.
    next_epoch_compares,
    /// A recoverer stops when MySQL is older than Redis.
    halts_when_mysql_is_older,
    /// NEXT_EPOCH looks again, under the lock, whether MySQL is older.
    next_epoch_halts_too,
    /// DIRECT: a number up to the direct fence's is skipped, because MySQL has it.
    direct_checks_fence,
    /// DIRECT: the transaction holds the shard's fence row, as a flush does.
    direct_locks,
    /// DIRECT: the version of the cached values is raised.
    direct_raises_version,
    /// A batch never changes its path.
    paths_are_kept,
    /// A batch is in the journal before it is sent.
    journal_before_send,
    /// Without an answer of Redis or MySQL, a client is acknowledged after the journal was fsynced, not before.
    fsync_before_acknowledge,
    /// Ingest lets go of everything once Redis has nothing left to flush, passed or not.
    drained_is_passed,
    /// ACK moves the cached values of the flushed articles.
    ack_moves_cached,
    /// ACK: under the data set's epoch only.
    ack_checks_epoch,
    /// FILL: refused when generations that the value lacks were forgotten.
    fill_checks_generation,
    /// FILL: a value that holds a pending generation answers the reader, but is not cached.
    fill_caches_at_first_only,
    /// FILL: a value older than the data set's version is refused.
    fill_checks_version,
    /// Cached values do not outlive the epoch, which is in their keys.
    cached_ends_with_epoch,
}
