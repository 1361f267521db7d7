//! Rules of the protocol switched off, and stores that lie, to show that the simulation notices.

use std::borrow::Cow;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// MySQL writes a flush whatever its fence says.
    NoFence,
    /// Redis takes a batch again that it has.
    RepeatsAreTaken,
    /// Redis takes batches for data that no recovery has opened.
    NoEpoch,
    /// A recovery does not tell Redis what MySQL has of each producer.
    ProducersAreForgotten,
    /// Redis counts a view with an id that it knows.
    IdsAreForgotten,
    /// Ingest has no journal although it is believed to have one.
    NoJournal,
    /// The disk says that data are safe that are not.
    SyncLies,
    /// A row that MySQL refuses stops all that are flushed with it.
    PoisonStops,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoFence,
        Self::RepeatsAreTaken,
        Self::NoEpoch,
        Self::ProducersAreForgotten,
        Self::IdsAreForgotten,
        Self::NoJournal,
        Self::SyncLies,
        Self::PoisonStops,
    ];

    /// The text of a script with the rule switched off.
    #[must_use]
    pub fn script<'a>(self, name: &str, text: &'a str) -> Cow<'a, str> {
        let (script, line, instead) = match self {
            // All but what leaves a gap.
            Self::RepeatsAreTaken => {
                ("apply", "if number <= last then", "if number > last + 1 then return {'BEHIND'} end if false then")
            }
            Self::NoEpoch => (
                "apply",
                "if meta.epoch ~= ARGV[1] or meta.incarnation ~= incarnation() then",
                "if not meta.epoch then",
            ),
            Self::ProducersAreForgotten => ("reopen", "for i = 10, #ARGV, 2 do", "for i = 10, 0 do"),
            Self::IdsAreForgotten => ("apply", "if #seen > 1 then return seen end", ""),
            Self::NoFence | Self::NoJournal | Self::SyncLies | Self::PoisonStops => return text.into(),
        };
        if name != script {
            return text.into();
        }
        assert!(text.contains(line), "{name} has no line `{line}` any more: {self:?} must be written anew");
        let text = text.replace(line, instead);
        match self {
            Self::RepeatsAreTaken => text.replace("if number ~= last + 1 then", "if false then").into(),
            _ => text.into(),
        }
    }
}
