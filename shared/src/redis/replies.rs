//! What scripts answer: a word, and values behind it. All words are here.

use redis::{FromRedisValue, RedisError, Value};

use super::errors::{QueueError, Result};
use crate::protocol::{Position, VIEWS_MAX};

/// What the reply of a script begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It is done, or was before.
    Ok,
    /// The data set is not open under this epoch.
    Epoch,
    /// What the data set holds does not add up.
    Damaged,
    /// It changed since it was looked at: look again.
    Moved,
    /// APPLY: batches before this one are missing.
    Behind,
    /// APPLY: some views were counted before.
    Seen,
    /// REGISTER: it was set up with another number of shards.
    Shards,
    /// STATE: there is no data set.
    None,
    /// STATE: no recovery has opened it in this life of the server.
    Stale,
    /// STATE: it is open.
    Current,
    /// STATE: the version before has left it.
    Before,
}

/// How scripts say it.
const WORDS: [(&str, Word); 11] = [
    ("OK", Word::Ok),
    ("EPOCH", Word::Epoch),
    ("DAMAGED", Word::Damaged),
    ("MOVED", Word::Moved),
    ("BEHIND", Word::Behind),
    ("SEEN", Word::Seen),
    ("SHARDS", Word::Shards),
    ("NONE", Word::None),
    ("STALE", Word::Stale),
    ("CURRENT", Word::Current),
    ("BEFORE", Word::Before),
];

impl Word {
    fn parse(said: &str) -> Option<Self> {
        WORDS.iter().find(|(text, _)| *text == said).map(|(_, word)| *word)
    }
}

/// The values of a script's reply behind its first word.
pub(super) struct Reply(Vec<Value>);

impl Reply {
    /// The first word of a reply and what follows it. That the data set is not open, or does not add up, is an error of
    /// every script.
    pub(super) fn parse(reply: Value) -> Result<(Word, Self)> {
        let mut reply: Vec<Value> = from_value(reply)?;
        if reply.is_empty() {
            return Err(QueueError::Corrupt("a script answered nothing".into()));
        }
        let word: String = from_value(reply.remove(0))?;
        match Word::parse(&word) {
            Some(Word::Epoch) => Err(QueueError::Epoch),
            Some(Word::Damaged) => Err(QueueError::Corrupt("the log is not as long as it should be".into())),
            Some(word) => Ok((word, Self(reply))),
            None => Err(QueueError::Corrupt(format!("a script answered {word}, which none of ours says"))),
        }
    }

    pub(super) fn number(&self, at: usize) -> Result<u64> {
        match self.0.get(at) {
            Some(value) => number_of(value),
            None => Err(QueueError::Corrupt("a script answered too little".into())),
        }
    }

    pub(super) fn text(&self, at: usize) -> Result<String> {
        let value = self.0.get(at).cloned().unwrap_or(Value::Nil);
        Ok(redis::from_redis_value(value).map_err(RedisError::from)?)
    }

    pub(super) fn positions(&self) -> Result<Vec<usize>> {
        (0..self.0.len()).map(|at| Ok(usize::try_from(self.number(at)?).unwrap_or(usize::MAX))).collect()
    }

    /// Tail and first.
    pub(super) fn position(&self, at: usize) -> Result<Position> {
        let (tail, first) = (self.number(at)?, self.number(at + 1)?);
        if first == 0 || first > tail + 1 {
            return Err(QueueError::Corrupt(format!("its log begins at {first} and ends at {tail}")));
        }
        Ok(Position { tail, first })
    }

    /// The list at this place.
    pub(super) fn list(&self, at: usize) -> Result<&[Value]> {
        match self.0.get(at) {
            Some(Value::Array(list)) => Ok(list),
            other => Err(QueueError::Corrupt(format!("a script answered {other:?} instead of a list"))),
        }
    }
}

pub(super) fn from_value<T: FromRedisValue>(value: Value) -> std::result::Result<T, RedisError> {
    Ok(redis::from_redis_value(value)?)
}

pub(super) fn number_of(value: &Value) -> Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok().filter(|number| *number <= VIEWS_MAX).ok_or_else(|| {
            QueueError::Corrupt(format!("a script answered {number}, which nobody can have counted to"))
        }),
        other => Err(QueueError::Corrupt(format!("a script answered {other:?} instead of a number"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::scripts::scripts;
    use super::*;

    /// Options of Redis's commands, which scripts write in the same way.
    const OPTIONS: [&str; 4] = ["GT", "KEEPTTL", "NX", "PX"];

    #[test]
    fn every_word_that_a_script_says_is_known_and_every_known_one_is_said() {
        let mut said = BTreeSet::new();
        for script in scripts() {
            let code = script.text.lines().filter_map(|line| line.split("--").next()).collect::<Vec<_>>().join("\n");
            let quoted = code.split('\'').collect::<Vec<_>>();
            // Every second piece is between quotation marks; a name behind `call(` is a command's.
            for pieces in quoted.windows(2).step_by(2).filter(|pieces| !pieces[0].ends_with("call(")) {
                let is_word = pieces[1].len() > 1 && pieces[1].bytes().all(|byte| byte.is_ascii_uppercase());
                if is_word && !OPTIONS.contains(&pieces[1]) {
                    assert!(Word::parse(pieces[1]).is_some(), "{}: {}", script.name, pieces[1]);
                    said.insert(pieces[1].to_owned());
                }
            }
        }
        assert_eq!(said, WORDS.iter().map(|(text, _)| (*text).to_owned()).collect());
    }

    #[test]
    fn what_no_script_of_ours_says_is_damage() {
        let reply = |word: &str| Reply::parse(Value::Array(vec![Value::BulkString(word.into()), Value::Int(7)]));
        let (word, values) = reply("OK").expect("a reply");
        assert_eq!((word, values.number(0).expect("a number")), (Word::Ok, 7));
        assert!(matches!(reply("EPOCH"), Err(QueueError::Epoch)));
        for other in ["DAMAGED", "HELLO", ""] {
            assert!(matches!(reply(other), Err(QueueError::Corrupt(_))), "{other}");
        }
        assert!(matches!(Reply::parse(Value::Array(vec![])), Err(QueueError::Corrupt(_))));
    }
}
