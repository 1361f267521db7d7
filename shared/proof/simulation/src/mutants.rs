//! Rules of the protocol switched off, and stores that lie, to show that the simulation notices.

use std::borrow::Cow;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// MySQL writes a flush whatever its fence says.
    NoFence,
    /// MySQL writes a flush of a data set that was opened under another epoch.
    NoEpochAtCommit,
    /// MySQL writes a flush wherever in the log it begins.
    NoPositionAtCommit,
    /// Redis takes a batch again that it has.
    RepeatsAreTaken,
    /// Redis takes a batch although it lacks those before it.
    GapsAreTaken,
    /// Redis takes batches for data that no recovery has opened.
    NoEpoch,
    /// A data set that was opened in an earlier life of its server counts as open.
    NoIncarnation,
    /// A data set that was opened on another server counts as open.
    IncarnationWithoutOwner,
    /// A recovery begins an epoch without asking whether the server can be written.
    EpochBeforeProbe,
    /// A recovery does not tell Redis what MySQL has of each producer.
    ProducersAreForgotten,
    /// What the version before has left is carried over with what MySQL has of it.
    StoredGenerationsAreCarried,
    /// A recovery keeps the log of a history that another one has overtaken.
    OvertakenLogIsKept,
    /// A recovery believes what is left of a data set without its meta.
    LeftoversAreBelieved,
    /// A data set counts as whole although its producers are gone.
    ProducersAreNotMissed,
    /// The log is trimmed when it is read, before MySQL has it.
    TrimmedBeforeCommit,
    /// Ingest lets go of a batch as soon as Redis has it.
    LetGoAtAppend,
    /// A flush moves cached bases along that have it already.
    BasesMoveTwice,
    /// A flush moves cached bases along although those of the one before were not moved.
    BasesMoveOutOfTurn,
    /// A base that lacks a flush is let in while the others are moved past it.
    BasesAreFilledMeanwhile,
    /// A cached base that was not moved past a flush is served.
    BasesBelowTheLogAreServed,
    /// What waits is added to a cached base that has it.
    BasesAreAddedTo,
    /// A base that lacks what went to MySQL directly is served although Redis was told.
    VersionsAreIgnored,
    /// Redis counts a view with an id that it knows.
    IdsAreForgotten,
    /// Ingest has no journal although it is believed to have one.
    NoJournal,
    /// The disk says that data are safe that are not.
    SyncLies,
    /// Ingest answers when Redis has a view, although it is to outlive a power cut.
    AnsweredBeforeTheDisk,
    /// A row that MySQL refuses stops all that are flushed with it.
    PoisonStops,
}

/// The script, or every one that has the line; the line; and what stands there instead.
type Edit = (Option<&'static str>, &'static str, &'static str);

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::NoFence,
        Self::NoEpochAtCommit,
        Self::NoPositionAtCommit,
        Self::RepeatsAreTaken,
        Self::GapsAreTaken,
        Self::NoEpoch,
        Self::NoIncarnation,
        Self::IncarnationWithoutOwner,
        Self::EpochBeforeProbe,
        Self::ProducersAreForgotten,
        Self::StoredGenerationsAreCarried,
        Self::OvertakenLogIsKept,
        Self::LeftoversAreBelieved,
        Self::ProducersAreNotMissed,
        Self::TrimmedBeforeCommit,
        Self::LetGoAtAppend,
        Self::BasesMoveTwice,
        Self::BasesMoveOutOfTurn,
        Self::BasesAreFilledMeanwhile,
        Self::BasesBelowTheLogAreServed,
        Self::BasesAreAddedTo,
        Self::VersionsAreIgnored,
        Self::IdsAreForgotten,
        Self::NoJournal,
        Self::SyncLies,
        Self::AnsweredBeforeTheDisk,
        Self::PoisonStops,
    ];

    /// What is changed in the scripts.
    fn edits(self) -> &'static [Edit] {
        const APPLY: Option<&str> = Some("apply");
        match self {
            Self::RepeatsAreTaken => &[
                // All but what leaves a gap.
                (APPLY, "if number <= last then", "if number > last + 1 then return {'BEHIND'} end if false then"),
                (APPLY, "if number ~= last + 1 then", "if false then"),
            ],
            Self::GapsAreTaken => &[(APPLY, "if number ~= last + 1 then return {'BEHIND'} end", "")],
            Self::NoEpoch => &[(
                APPLY,
                "if meta.epoch ~= ARGV[1] or meta.incarnation ~= incarnation() then",
                "if not meta.epoch then",
            )],
            Self::NoIncarnation => &[
                (None, " or meta.incarnation ~= incarnation() then", " then"),
                (Some("state"), "meta.incarnation == incarnation() and 'CURRENT' or 'STALE'", "'CURRENT'"),
            ],
            Self::EpochBeforeProbe => &[
                (Some("probe"), "#!lua flags=allow-oom", "#!lua flags=no-writes"),
                (Some("probe"), "if incarnation() == 'replica' then", "if false then"),
            ],
            Self::ProducersAreForgotten => &[(Some("reopen"), "for i = 9, #ARGV, 2 do", "for i = 9, 0 do")],
            Self::StoredGenerationsAreCarried => {
                &[(Some("carry"), "if generation > position then", "if generation >= first then")]
            }
            // What is found to be damaged while it is open is set aside all the same.
            Self::OvertakenLogIsKept => {
                &[(Some("reopen"), "ARGV[6] == '1'", "(ARGV[6] == '1' or meta.incarnation ~= ARGV[2])")]
            }
            Self::LeftoversAreBelieved => &[(
                Some("reopen"),
                "else\n  -- An overtaken history",
                "elseif meta.epoch then\n  -- An overtaken history",
            )],
            Self::ProducersAreNotMissed => {
                &[(Some("state"), "or noted == meta.epoch and opened ~= noted then", "then")]
            }
            Self::TrimmedBeforeCommit => &[(
                Some("follow"),
                "return {\n  'OK', meta.tail, meta.first,",
                "if ARGV[4] == '' and #entries > 0 then\n\
                 redis.call('LTRIM', KEYS[2], #entries, -1)\n\
                 redis.call('HSET', KEYS[1], 'first', meta.first + #entries)\n\
                 end\n\
                 return {\n  'OK', meta.tail, meta.first,",
            )],
            Self::LetGoAtAppend => {
                &[(APPLY, "return {'OK', meta.tail + 1, meta.first}", "return {'OK', meta.tail + 1, meta.tail + 2}")]
            }
            Self::BasesMoveTwice => &[(Some("advance"), "elseif position <= before then", "else")],
            Self::BasesMoveOutOfTurn => &[
                (Some("advance"), "if before ~= meta.first - 1 then return {'MOVED'} end", ""),
                (Some("advance"), "if not position or position < meta.valid_from then", "if not position then"),
            ],
            Self::BasesAreFilledMeanwhile => &[(Some("fill"), "or position < meta.fill_from then", "then")],
            Self::BasesBelowTheLogAreServed => &[
                (Some("follow"), "if views and tonumber(position) >= meta.valid_from then", "if views then"),
                (Some("advance"), "if not position or position < meta.valid_from then", "if not position then"),
            ],
            Self::BasesAreAddedTo => &[(
                Some("follow"),
                "bases[#bases + 1] = tonumber(position) or false",
                "bases[#bases + 1] = views and meta.first - 1 or false",
            )],
            Self::VersionsAreIgnored => &[(
                Some("follow"),
                "if ARGV[4] ~= '' and meta.version ~= tonumber(ARGV[4]) then return {'EPOCH'} end",
                "",
            )],
            Self::IdsAreForgotten => &[(APPLY, "if #seen > 1 then return seen end", "")],
            Self::NoFence
            | Self::NoEpochAtCommit
            | Self::NoPositionAtCommit
            | Self::IncarnationWithoutOwner
            | Self::NoJournal
            | Self::SyncLies
            | Self::AnsweredBeforeTheDisk
            | Self::PoisonStops => &[],
        }
    }

    /// The text of a script with the rule switched off.
    #[must_use]
    pub fn script<'a>(self, name: &str, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (script, line, instead) in self.edits() {
            if *script == Some(name) {
                assert!(text.contains(line), "{name} has no line `{line}` any more: {self:?} must be written anew");
            }
            if script.is_none_or(|script| script == name) {
                text = text.replace(line, instead).into();
            }
        }
        text
    }
}
