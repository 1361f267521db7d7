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
    /// APPLY: a request under another epoch than the data set's is refused.
    apply_checks_epoch,
    /// APPLY: a data set that was not opened in this life of its server takes nothing.
    apply_checks_incarnation,
    /// APPLY: a number that the data set has is not appended again.
    apply_checks_number,
    /// FOLLOW: a data set of another epoch, or one that is not open, answers nothing.
    follow_checks_epoch,
    /// A follower forgets its entries and its cursor when the epoch changes.
    follower_begins_anew,
    /// COMMIT: a flush under another epoch than the fence's is refused.
    commit_checks_epoch,
    /// COMMIT: only entries behind the fence's position are written.
    commit_checks_position,
    /// COMMIT: entries that do not follow the fence's position stop the flush.
    commit_checks_hole,
    /// COMMIT: every producer's batches must follow its fence.
    commit_checks_producers,
    /// The log is trimmed after the commit, not before.
    commit_before_trim,
    /// ACK: under the data set's epoch only.
    ack_checks_epoch,
    /// ACK: `first` moves with the trim.
    ack_moves_first,
    /// A batch is retained until `first` passes its position, not only until Redis has taken it.
    retained_until_first,
    /// The position of a batch, as a reply told it, is forgotten when the epoch changes.
    marks_end_with_epoch,
    /// A data set that was opened on another server is not open, however it came here.
    incarnation_has_owner,
    /// PROBE before NEXT_EPOCH: no epoch is begun for a server that takes no writes, or is not what was seen any more.
    probe_before_epoch,
    /// NEXT_EPOCH: compare-and-swap.
    next_epoch_compares,
    /// NEXT_EPOCH: the fence is read under the lock under which the epoch begins.
    fence_is_read_under_lock,
    /// The next epoch begins in MySQL before a data set is opened under it.
    epoch_before_reopen,
    /// A recoverer stops when MySQL is older than Redis.
    halts_when_mysql_is_older,
    /// NEXT_EPOCH looks again, under the lock, whether MySQL is older.
    next_epoch_halts_too,
    /// REOPEN: only the data set that STATE has seen: same life of the server, epoch and `first`.
    reopen_is_exact,
    /// REOPEN is sent once per epoch: no retry after a lost reply.
    reopen_once,
    /// REOPEN: a log older than the last flush is set aside.
    reopen_sets_aside,
    /// REOPEN: entries at or below the position are taken off the list.
    reopen_trims,
    /// REOPEN: `first` moves behind the position.
    reopen_moves_first,
    /// REOPEN: a tail below the position moves there.
    reopen_raises_tail,
    /// REOPEN: producers are raised to their fences.
    reopen_raises_producers,
    /// DIRECT: a number up to the direct fence's is skipped, because MySQL has it.
    direct_checks_fence,
    /// DIRECT: the transaction holds the shard's fence row, as a flush does.
    direct_locks,
    /// DIRECT: the version of the cached bases is raised.
    direct_raises_version,
    /// A batch never changes its path.
    paths_are_kept,
    /// A batch is in the journal before it is sent.
    journal_before_send,
    /// Without an answer of Redis or MySQL, a client is acknowledged after the journal was fsynced, not before.
    fsync_before_acknowledge,
    /// FILL: a base of another epoch is refused.
    fill_checks_epoch,
    /// FILL: a base older than the data set's version is refused.
    fill_checks_version,
    /// FILL: a base that lacks entries which were trimmed is refused.
    fill_checks_first,
    /// FILL: a base is cached with its position.
    base_has_position,
    /// READ: only entries behind the base's position are added to it.
    read_adds_behind_base,
    /// READ: an answer says when the follower has not come to the tail.
    read_says_partial,
    /// ADVANCE: only for the flush that is trimmed next; else the base may lack one before it.
    advance_checks_first,
    /// ADVANCE: a base that has the flush is not moved again.
    advance_checks_position,
    /// ADVANCE: from then on no base that lacks the flush is let in.
    advance_stops_fills,
    /// ACK: unless the bases were moved along, none below its position is valid any more.
    ack_ends_unmoved_bases,
    /// Cached bases do not outlive the epoch, which is in their keys.
    bases_end_with_epoch,
}
